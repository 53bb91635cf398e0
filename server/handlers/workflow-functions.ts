/** Functions of workflows, run as handlers are: a thread for each module and configuration, shared by workflows. */
import { realPathOf } from '../adapters/real-path.js';
import { AppError } from '../errors.js';
import type { CallContext } from '../service/types.js';
import type { FunctionSource, WorkflowFunction, WorkflowFunctions } from '../service/workflows/functions.js';
import type { HostAnswer } from './handler-calls.js';
import type { HandlerLog } from './handler-thread.js';
import { HandlerHost, type HandlerLimits } from './host.js';

/** What the service is made of. */
export interface WorkflowFunctionsOptions {
  /** True for a module that may be run: the operator's own. */
  readonly trusted: (module: string) => boolean;
  readonly limits: HandlerLimits;
  /** How long a function that no workflow needs any more may finish what it answers. */
  readonly drainMs: number;
  readonly log: HandlerLog;
}

interface Shared {
  readonly host: HandlerHost;
  readonly ready: Promise<void>;
  users: number;
}

/** Starts, shares and ends functions. */
export class WorkflowFunctionThreads implements WorkflowFunctions {
  readonly #options: WorkflowFunctionsOptions;
  readonly #shared = new Map<string, Shared>();

  constructor(options: WorkflowFunctionsOptions) {
    this.#options = options;
  }

  async open(source: FunctionSource): Promise<WorkflowFunction> {
    const module = realPathOf(source.module);
    this.#requireTrusted(source, module);
    const key = JSON.stringify([module, source.properties]);
    const shared = this.#shared.get(key) ?? this.#start(key, source, module);
    shared.users += 1;
    let held = true;
    const release = async () => {
      if (!held) return;
      held = false;
      shared.users -= 1;
      if (shared.users > 0) return;
      this.#shared.delete(key);
      await shared.host.idle(this.#options.drainMs);
      await shared.host.close(new AppError('WORKFLOW_NOT_FOUND', `workflow ${source.workflow} was unregistered`));
    };
    try {
      await shared.ready;
    } catch (thrown) {
      await release();
      const what = `functions.${source.name} (${source.module}): ${AppError.from(thrown).message}`;
      throw new AppError('WORKFLOW_INVALID', what, { cause: thrown });
    }
    return { call: (args, index, call) => callFunction(shared.host, source, args, index, call), release };
  }

  /** Ends all. */
  async close(): Promise<void> {
    await Promise.all(Array.from(this.#shared.values(), ({ host }) => host.close()));
    this.#shared.clear();
  }

  #start(key: string, { workflow, name, properties }: FunctionSource, module: string): Shared {
    const { limits, log } = this.#options;
    const host = new HandlerHost({
      ...{ model: `${workflow}.${name}`, entryPoint: module, properties, limits, log },
      modelDir: module.replace(/[\\/][^\\/]*$/, ''),
      inference: undefined,
      registrations: () => [],
    });
    const shared: Shared = { host, ready: host.start(), users: 0 };
    shared.ready.catch(() => {});
    this.#shared.set(key, shared);
    return shared;
  }

  /** A function is code, as a handler of a model is. Throws MODEL_SOURCE_FORBIDDEN. */
  #requireTrusted({ name, module }: FunctionSource, real: string): void {
    if (this.#options.trusted(real)) return;
    throw new AppError(
      'MODEL_SOURCE_FORBIDDEN',
      `functions.${name}: ${module} is code, which is run only from folders of workflows and models of the start and from --model-store`,
    );
  }
}

/** Arguments are content: the first under `data`, further ones under `data1`, `data2` and so on. */
async function callFunction(
  host: HandlerHost,
  { workflow, name }: FunctionSource,
  args: readonly string[],
  index: number,
  call: CallContext,
): Promise<string> {
  const input = {
    properties: Object.entries({ workflow, function: name, index: String(index) }),
    content: args.map((text, at) => ({ key: at === 0 ? 'data' : `data${at}`, value: Buffer.from(text) })),
  };
  try {
    const answer = await host.call('handle', input, call);
    const text = await textOf(answer);
    if (answer.code >= 400) {
      throw new AppError('HANDLER_FAILED', text, { metadata: { status: String(answer.code) } });
    }
    return text;
  } catch (thrown) {
    const { reason, message, metadata } = AppError.from(thrown);
    throw new AppError(reason, `function ${name} of workflow ${workflow}: ${message}`, { metadata, cause: thrown });
  }
}

async function textOf({ body }: HostAnswer): Promise<string> {
  if (body === undefined) return '';
  if (typeof body === 'string') return body;
  if (body instanceof Uint8Array) return Buffer.from(body).toString();
  const pieces: Buffer[] = [];
  for await (const piece of body) pieces.push(Buffer.from(piece as Uint8Array));
  return Buffer.concat(pieces).toString();
}
