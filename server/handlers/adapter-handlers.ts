/** Handlers that adapters bring: a thread for each that is needed, at most so many; the one unused for longest makes room. */
import type { InputParts } from '../../sdk/handler-input.js';
import type { AdapterModule } from '../adapters/adapter-module.js';
import { isBelow, realPathOf } from '../adapters/real-path.js';
import { AppError } from '../errors.js';
import type { AdapterCode, CodeOf, StartedCode } from '../service/adapter-code.js';
import type { HandlerAnswer } from '../service/handler-types.js';
import type { CallContext, InferenceService } from '../service/types.js';
import { inputOf } from './adapter-input.js';
import type { HandlerLog } from './handler-thread.js';
import { HandlerHost, type HandlerLimits } from './host.js';

/** What the service is made of. */
export interface AdapterHandlersOptions {
  /** Folders whose adapters may bring handlers, absolute. */
  readonly folders: readonly string[];
  /** Most threads at once. */
  readonly maxThreads: number;
  readonly limits: HandlerLimits;
  /** What handlers generate with. */
  readonly inference: InferenceService;
  /** True where a model has a handler of its own, which then answers for its adapters. */
  readonly ownHandler: (model: string) => boolean;
  readonly log: HandlerLog;
}

interface Running {
  readonly of: CodeOf;
  readonly host: HandlerHost;
}

/** Starts and ends handlers of adapters, and calls them. */
export class AdapterHandlers implements AdapterCode {
  readonly #options: AdapterHandlersOptions;
  /** Those that answer, by model and adapter; the one used last is last. */
  readonly #running = new Map<string, Running>();
  /** Threads: of those that answer, that are being tried, and that still finish what they answer. */
  readonly #hosts = new Map<HandlerHost, CodeOf>();

  constructor(options: AdapterHandlersOptions) {
    this.#options = options;
  }

  /** True where no adapter may bring a handler. */
  get none(): boolean {
    return this.#options.folders.length === 0;
  }

  /** Threads that there are. */
  get threads(): number {
    return this.#hosts.size;
  }

  refusal(model: string, { path }: AdapterModule): string | undefined {
    const { folders, ownHandler } = this.#options;
    if (ownHandler(model)) return 'the handler of the model answers for all its adapters';
    if (folders.some((folder) => isBelow(path, realPathOf(folder)))) return undefined;
    return 'it does not lie in a folder of --adapter-handlers';
  }

  async start(of: CodeOf): Promise<StartedCode> {
    const host = this.#open(of);
    try {
      await host.start();
      if (host.has('registerAdapter')) await host.call('registerAdapter', registration(of), callOf('register'));
    } catch (thrown) {
      await this.#end(host);
      const { message } = AppError.from(thrown);
      throw new AppError('ADAPTER_INVALID', `${of.module.file}: ${message}`, { cause: thrown });
    }
    return {
      take: (taken) => {
        const key = keyOf(taken);
        const before = this.#running.get(key);
        this.#running.delete(key);
        this.#running.set(key, { of: taken, host });
        if (before !== undefined) this.#finish(before.host);
      },
      discard: () => void this.#end(host),
    };
  }

  forget(model: string, name: string): void {
    const key = keyOf({ model, name });
    const running = this.#running.get(key);
    this.#running.delete(key);
    if (running !== undefined) this.#finish(running.host);
  }

  /**
   * Lets the adapter's handler answer, starting its thread where there is none.
   * @throws AppError as {@link HandlerHost.call}; QUEUE_FULL where all threads are busy
   */
  async handle(of: CodeOf, input: InputParts, call: CallContext): Promise<HandlerAnswer> {
    const key = keyOf(of);
    let running = this.#running.get(key);
    if (running?.of.version !== of.version) {
      if (running !== undefined) this.#finish(running.host);
      this.#running.delete(key);
      running = { of, host: this.#open(of) };
    }
    // The last one used is the last to go.
    this.#running.delete(key);
    this.#running.set(key, running);
    return running.host.call('handle', input, call);
  }

  /** True while a model's adapters have threads that answer. */
  isBusy(model: string): boolean {
    return [...this.#hosts].some(([host, of]) => of.model === model && host.busy);
  }

  /** Waits for what the adapters of a model answer, then ends their threads; what is left fails with the reason. */
  async drain(model: string, withinMs: number, why: AppError): Promise<void> {
    const mine = [...this.#hosts].filter(([, of]) => of.model === model).map(([host]) => host);
    await Promise.all(mine.map((host) => host.idle(withinMs)));
    for (const [key, { of }] of [...this.#running]) if (of.model === model) this.#running.delete(key);
    await Promise.all(mine.map((host) => this.#end(host, why)));
  }

  /** Ends all. */
  async close(): Promise<void> {
    this.#running.clear();
    await Promise.all([...this.#hosts.keys()].map((host) => this.#end(host)));
  }

  /** A thread to be, in the room of another one where there are too many. */
  #open(of: CodeOf): HandlerHost {
    const { maxThreads, limits, inference, log } = this.#options;
    if (this.#hosts.size >= maxThreads) {
      const idle = [...this.#running].find(([, { host }]) => !host.busy);
      if (idle === undefined) {
        throw new AppError('QUEUE_FULL', `all ${maxThreads} threads of adapters' handlers are busy`, {
          retryAfterMs: 1000,
        });
      }
      const [key, { host }] = idle;
      this.#running.delete(key);
      void this.#end(host);
    }
    const { model, name, module, options } = of;
    const host: HandlerHost = new HandlerHost({
      ...{ model, limits, inference, log },
      adapter: name,
      modelDir: module.folder,
      entryPoint: module.path,
      properties: options,
      // A first thread is told by whoever starts it, where somebody waits to hear what it says.
      registrations: () => (this.#running.get(keyOf(of))?.host === host ? [registration(of)] : []),
    });
    this.#hosts.set(host, of);
    return host;
  }

  /** Ends a thread after what it answers. */
  #finish(host: HandlerHost): void {
    host.idle(this.#options.limits.callMs).then(() => this.#end(host));
  }

  async #end(host: HandlerHost, why?: AppError): Promise<void> {
    this.#hosts.delete(host);
    const changed = 'the adapter was changed or unregistered meanwhile, and its former handler was ended';
    await host.close(why ?? new AppError('HANDLER_CRASHED', changed));
  }
}

function keyOf({ model, name }: { readonly model: string; readonly name: string }): string {
  return JSON.stringify([model, name]);
}

function registration({ name, source, preload, pin, options }: CodeOf): InputParts {
  return inputOf({ name, source, preload, pin, options });
}

function callOf(requestId: string): CallContext {
  return { requestId, signal: new AbortController().signal };
}
