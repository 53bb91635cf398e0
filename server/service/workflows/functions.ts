/** Functions that a workflow brings, as whoever runs their modules offers them. */
import type { CallContext } from '../types.js';

/** A function of a definition. */
export interface FunctionSource {
  readonly workflow: string;
  /** Its name in the definition. */
  readonly name: string;
  /** Absolute path of its module. */
  readonly module: string;
  /** What `configs` has under its name. */
  readonly properties: Readonly<Record<string, string>>;
}

/** A function that can be called. */
export interface WorkflowFunction {
  /**
   * @param args texts of its arguments, for one input of a request
   * @param index of the input
   * @throws AppError HANDLER_FAILED and the other reasons of handlers
   */
  call(args: readonly string[], index: number, call: CallContext): Promise<string>;
  /** The workflow no longer needs it. Resolves when what it answers is done. Idempotent. */
  release(): Promise<void>;
}

/** Runs functions. */
export interface WorkflowFunctions {
  /** Throws WORKFLOW_INVALID where the module cannot be loaded, MODEL_SOURCE_FORBIDDEN where it may not be run. */
  open(source: FunctionSource): Promise<WorkflowFunction>;
}
