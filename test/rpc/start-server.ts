import { createListener, type ListenerOptions } from '../../server/listener/listener.js';
import type { RpcRecord } from '../../server/rpc/call.js';
import { type ConnectHandlerOptions, connectHandler } from '../../server/rpc/connect-handler.js';
import { HealthState } from '../../server/rpc/health.js';
import { HEALTH_SERVICES } from '../../server/rpc/routes.js';
import { type EchoServices, echoServices } from './echo-services.js';

/** A running server, as tests see it. */
export interface TestServer {
  readonly baseUrl: string;
  readonly host: string;
  readonly port: number;
  readonly services: EchoServices;
  readonly health: HealthState;
  /** Ended calls. */
  readonly records: RpcRecord[];
  /** What failed outside of any call. */
  readonly faults: unknown[];
  close(graceMs?: number, beforeCut?: () => void): Promise<void>;
}

/** Starts the RPC surface over echo services on a free port. */
export async function startServer(
  options: Partial<ConnectHandlerOptions & ListenerOptions> & { tokenMs?: number } = {},
): Promise<TestServer> {
  const services = echoServices(options.tokenMs);
  const health = new HealthState(HEALTH_SERVICES);
  health.ready();
  const records: RpcRecord[] = [];
  const faults: unknown[] = [];
  const handler = connectHandler({
    services,
    health,
    log: (record) => records.push(record),
    onError: (error) => faults.push(error),
    fallback: (req, res) => {
      res.writeHead(404, { 'content-type': 'text/plain', connection: 'close' });
      res.end(`no route ${req.method} ${req.url}\n`);
    },
    ...options,
  });
  const listener = createListener({ handler, ...options });
  await listener.listen('127.0.0.1', 0);
  const { port } = listener.address!;
  return {
    baseUrl: `http://127.0.0.1:${port}`,
    host: '127.0.0.1',
    port,
    services,
    health,
    records,
    faults,
    close: (graceMs = 0, beforeCut) => listener.close(graceMs, beforeCut),
  };
}

/** Waits until a condition holds; for what happens soon, but not at once. */
export async function eventually(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`did not happen: ${what}`);
}
