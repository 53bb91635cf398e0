import { Code, ConnectError, type ServiceImpl } from '@connectrpc/connect';
import { type Health, HealthCheckResponse_ServingStatus as ServingStatus } from '../../gen/grpc/health/v1/health_pb.js';

/**
 * Whether the server takes work: what health checks see. `''` is the server as a whole; services have the same state.
 * It starts as not serving.
 */
export class HealthState {
  readonly #services: ReadonlySet<string>;
  readonly #listeners = new Set<() => void>();
  readonly #drain = new AbortController();
  #serving = false;

  /** @param services full names, for example `loramux.v1.InferenceService` */
  constructor(services: Iterable<string>) {
    this.#services = new Set(['', ...services]);
  }

  /** True when the server takes work. */
  get serving(): boolean {
    return this.#serving;
  }

  /** Names with a status; `''` is the server. */
  get services(): ReadonlySet<string> {
    return this.#services;
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

/** Serves `grpc.health.v1.Health` (https://github.com/grpc/grpc/blob/master/doc/health-checking.md). */
export function healthRpc(state: HealthState): ServiceImpl<typeof Health> {
  const status = (service: string): ServingStatus => {
    if (!state.services.has(service)) return ServingStatus.SERVICE_UNKNOWN;
    return state.serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
  };
  return {
    check({ service }) {
      if (!state.services.has(service)) throw new ConnectError(`no service ${service}`, Code.NotFound);
      return { status: status(service) };
    },

    list() {
      return { statuses: Object.fromEntries([...state.services].map((name) => [name, { status: status(name) }])) };
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
