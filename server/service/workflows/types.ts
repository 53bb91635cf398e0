/** Workflows as the surfaces see them. */
import type { CallContext } from '../types.js';

/** A model of a workflow. */
export interface WorkflowModel {
  /** Key of the definition's `models`. */
  readonly local: string;
  /** Name it is served under: the local one, or `workflow:local` where another model has that. */
  readonly served: string;
  readonly url: string;
}

/** An adapter of a workflow. */
export interface WorkflowAdapter {
  readonly name: string;
  /** Name of the served model it is registered with. */
  readonly model: string;
  readonly source: string;
}

/** A registered workflow. */
export interface WorkflowInfo {
  readonly name: string;
  /** '' = none. */
  readonly version: string;
  readonly models: readonly WorkflowModel[];
  readonly adapters: readonly WorkflowAdapter[];
  /** The calls that make an answer, in order, for example `["cfm", "adapter fr of cfm", "function tidy"]`. */
  readonly calls: readonly string[];
  /** The definition, as JSON text. */
  readonly definition: string;
  /** True: named when the server started. */
  readonly startup: boolean;
  /** Unix milliseconds. */
  readonly createdAt: number;
  /** Why it is not served, though it is kept: it has no models, adapters and calls then; absent = it is served. */
  readonly error?: string | undefined;
}

/** What identifies a workflow; the version '' is one, too. */
export type WorkflowKey = Pick<WorkflowInfo, 'name' | 'version'>;

/** `name`, or `name/version`. */
export function workflowId({ name, version }: WorkflowKey): string {
  return version === '' ? name : `${name}/${version}`;
}

/** Where a workflow's definition comes from. */
export type WorkflowSource =
  /** A file, or a folder that holds workflow.json, workflow.yml or workflow.yaml; absolute path or `file:` URI. */
  | { readonly kind: 'url'; readonly url: string }
  /** The text of a definition, JSON or YAML. */
  | { readonly kind: 'text'; readonly text: string }
  /** A built-in template and its parameters. */
  | { readonly kind: 'template'; readonly template: string; readonly parameters: Readonly<Record<string, string>> };

/** Management of workflows. Throws AppError. */
export interface WorkflowService {
  /** Sorted by name, then version. */
  list(): readonly WorkflowInfo[];
  /** All versions of a name, newest first, or the one asked for. Throws WORKFLOW_NOT_FOUND. */
  get(name: string, version?: string): readonly WorkflowInfo[];
  /**
   * Loads what the workflow needs and answers when it can be called; if anything fails, nothing is registered.
   * Throws WORKFLOW_INVALID, WORKFLOW_EXISTS, and what loading models and adapters throws.
   */
  register(source: WorkflowSource, call: CallContext): Promise<WorkflowInfo>;
  /** Checks the definition, and registers it afterwards; a failure is told in the log only. */
  schedule(source: WorkflowSource, call: CallContext): Promise<{ readonly name: string; readonly version: string }>;
  /** True where a url leads to a definition that may be read. */
  definitionAt(url: string): Promise<boolean>;
  /** Removes one version, or all; models and adapters that nothing else uses go too. Throws WORKFLOW_NOT_FOUND. */
  unregister(name: string, version: string | undefined, call: CallContext): Promise<readonly WorkflowInfo[]>;
}
