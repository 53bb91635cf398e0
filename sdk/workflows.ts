import type { Client } from '@connectrpc/connect';
import type { WorkflowService } from '../gen/loramux/v1/workflows_pb.js';
import type { RunCall } from './adapters.js';
import { fromWorkflow } from './from-model.js';
import type { CreateWorkflowParams, Workflow } from './model-types.js';
import { PagedList } from './pagination.js';
import type { CallOptions } from './types.js';
import { refuseNoRecord, refuseOthers } from './unknown-fields.js';

/** `client.workflows`: names whose requests go through models and adapters in steps. */
export class WorkflowsResource {
  readonly #rpc: Client<typeof WorkflowService>;
  readonly #run: RunCall;

  constructor(rpc: Client<typeof WorkflowService>, run: RunCall) {
    this.#rpc = rpc;
    this.#run = run;
  }

  /** Lists by name and version: `await` gives a page, `for await` every workflow. */
  list(params: { pageSize?: number; pageToken?: string } = {}, options?: CallOptions): PagedList<Workflow> {
    refuseOthers(params, ['pageSize', 'pageToken'], 'params of list');
    const { pageSize = 0, pageToken: firstToken } = params;
    return new PagedList(async (pageToken) => {
      const page = await this.#run(options, true, (call) => this.#rpc.listWorkflows({ pageSize, pageToken }, call));
      return { items: page.workflows.map(fromWorkflow), nextPageToken: page.nextPageToken };
    }, firstToken);
  }

  /** Describes a workflow: the version asked for, else the newest. Throws ModelNotFoundError. */
  async get(name: string, params: { version?: string } = {}, options?: CallOptions): Promise<Workflow> {
    refuseOthers(params, ['version'], 'params of get');
    const request = { name, ...(params.version !== undefined && { version: params.version }) };
    return fromWorkflow((await this.#run(options, true, (call) => this.#rpc.getWorkflow(request, call))).workflow);
  }

  /**
   * Registers a workflow with the models and adapters that it needs; it can be called when this returns. If anything
   * fails, nothing is registered. With `synchronous: false` only name and version of the result are filled in. Throws
   * InvalidRequestError (the definition makes no sense, the name is taken), AdapterInvalidError, UnavailableError.
   */
  async create(params: CreateWorkflowParams, options?: CallOptions): Promise<Workflow> {
    const request = {
      source: sourceOf(params),
      ...(params.synchronous !== undefined && { synchronous: params.synchronous }),
    };
    return fromWorkflow((await this.#run(options, false, (call) => this.#rpc.createWorkflow(request, call))).workflow);
  }

  /** Removes one version, or all; returns what was removed, newest first. Throws ModelNotFoundError. */
  async delete(name: string, params: { version?: string } = {}, options?: CallOptions): Promise<Workflow[]> {
    refuseOthers(params, ['version'], 'a deletion');
    const request = { name, ...(params.version !== undefined && { version: params.version }) };
    const { workflows } = await this.#run(options, false, (call) => this.#rpc.deleteWorkflow(request, call));
    return workflows.map(fromWorkflow);
  }
}

const SOURCES = ['url', 'definition', 'template'] as const;

function sourceOf(params: CreateWorkflowParams) {
  refuseOthers(params, [...SOURCES, 'parameters', 'synchronous'], 'a new workflow');
  const given = SOURCES.filter((name) => (params as Record<string, unknown>)[name] !== undefined);
  if (given.length !== 1) throw new TypeError(`a new workflow needs exactly one of ${SOURCES.join(', ')}`);
  const { url, template, parameters, definition } = params as Partial<
    Record<'url' | 'template', string> & { parameters: Readonly<Record<string, string>>; definition: unknown }
  >;
  if (url !== undefined) return { case: 'url' as const, value: url };
  if (template !== undefined) {
    refuseNoRecord(parameters, 'parameters');
    return { case: 'template' as const, value: { name: template, parameters: { ...parameters } } };
  }
  return {
    case: 'definition' as const,
    value: typeof definition === 'string' ? definition : JSON.stringify(definition),
  };
}
