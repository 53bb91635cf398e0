import { Code, ConnectError, type ServiceImpl } from '@connectrpc/connect';
import { type Health, HealthCheckResponse_ServingStatus as ServingStatus } from '../../gen/grpc/health/v1/health_pb.js';
import type { ServedHealth } from '../service/served-health.js';

/**
 * Whether the server takes work: what health checks see. It starts as not serving. Names that have a status:
 *
 * | name | serving |
 * | --- | --- |
 * | `''` | the server takes work, and no engine has stopped |
 * | a service | the server takes work |
 * | a model, a workflow | the server takes work, and requests of that name are answered |
 */
export class HealthState {
  readonly #services: ReadonlySet<string>;
  readonly #served: ServedHealth | undefined;
  readonly #listeners = new Set<() => void>();
  readonly #drain = new AbortController();
  #serving = false;

  /**
   * @param services full names, for example `loramux.v1.InferenceService`
   * @param served models and workflows; absent = none are told of. One that is named like a service is hidden by it.
   */
  constructor(services: Iterable<string>, served?: ServedHealth) {
    this.#services = new Set(services);
    this.#served = served;
    served?.onChange(() => this.#notify());
  }

  /** Names with a status; `''` is the server. */
  names(): string[] {
    return [...new Set(['', ...this.#services, ...(this.#served?.names() ?? [])])];
  }

  /** True: serving; undefined: nothing has the name. */
  of(name: string): boolean | undefined {
    if (name === '') return this.#serving && (this.#served?.whole ?? true);
    if (this.#services.has(name)) return this.#serving;
    const answers = this.#served?.answers(name);
    return answers === undefined ? undefined : answers && this.#serving;
  }

  /** Aborts when the server drains: open-ended streams end then, so that they do not hold up the shutdown. */
  get draining(): AbortSignal {
    return this.#drain.signal;
  }

  /** Everything is loaded: work is taken from now on. */
  ready(): void {
    if (this.#drain.signal.aborted) return;
    this.#serving = true;
    this.#notify();
  }

  /** First step of a shutdown; there is no way back. */
  drain(): void {
    this.#serving = false;
    this.#drain.abort();
    this.#notify();
  }

  /** Calls `listener` at every change until the returned function is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
  }
}

/** Most names that a refusal tells. */
const MAX_NAMES = 20;

/** Serves `grpc.health.v1.Health` (https://github.com/grpc/grpc/blob/master/doc/health-checking.md). */
export function healthRpc(state: HealthState): ServiceImpl<typeof Health> {
  const status = (service: string): ServingStatus => {
    const serving = state.of(service);
    if (serving === undefined) return ServingStatus.SERVICE_UNKNOWN;
    return serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
  };
  return {
    check({ service }) {
      const now = status(service);
      if (now === ServingStatus.SERVICE_UNKNOWN) {
        const [, ...names] = state.names();
        const known = `${names.slice(0, MAX_NAMES).join(', ')}${names.length > MAX_NAMES ? ', ...' : ''}`;
        const what = `no service, model or workflow has the name ${JSON.stringify(service)}`;
        throw new ConnectError(`${what}; there are ${known}`, Code.NotFound);
      }
      return { status: now };
    },

    list() {
      return { statuses: Object.fromEntries(state.names().map((name) => [name, { status: status(name) }])) };
    },

    async *watch({ service }, { signal }) {
      let wake = (): void => {};
      const stop = state.onChange(() => wake());
      const onAbort = (): void => wake();
      signal.addEventListener('abort', onAbort);
      try {
        let sent: ServingStatus | undefined;
        while (!signal.aborted) {
          const changed = new Promise<void>((resolve) => {
            wake = resolve;
          });
          const now = status(service);
          if (now !== sent) yield { status: now };
          sent = now;
          if (state.draining.aborted) throw new ConnectError('the server is shutting down', Code.Unavailable);
          if (!signal.aborted) await changed;
        }
      } finally {
        stop();
        signal.removeEventListener('abort', onAbort);
      }
    },
  };
}
