/// <reference lib="esnext.disposable" preserve="true" />
/** Entry for Node: gRPC, or Connect over HTTP/2 or HTTP/1.1, with connections that are kept and can be closed. */
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport } from '@connectrpc/connect-node';
import { checkClientOptions } from './check-options.js';
import { type ClientOptions, TransportClient } from './client.js';
import { Http2Sessions } from './http2-sessions.js';

export * from './public.js';

/** How a client talks to the server. */
export type Protocol = 'grpc' | 'connect' | 'connect-h1';

/** Options of a client on Node. */
export interface LoramuxClientOptions extends ClientOptions {
  /** `grpc` and `connect` use HTTP/2, `connect-h1` HTTP/1.1. Default `grpc`. */
  protocol?: Protocol | undefined;
}

/** A client for Node. */
export class LoramuxClient extends TransportClient implements AsyncDisposable {
  readonly #close: () => void;

  constructor(options: LoramuxClientOptions = {}) {
    const baseUrl = checkClientOptions(options, ['protocol']);
    const { transport, close } = connection(baseUrl, options.protocol ?? 'grpc');
    super(transport, options);
    this.#close = close;
  }

  /** Closes the connections and cancels what runs. Without it they are closed when idle, and do not keep Node alive. */
  close(): void {
    this.cancelAll(); // else what may be repeated would make a connection again
    this.#close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

function connection(baseUrl: string, protocol: Protocol): { transport: Transport; close: () => void } {
  if (protocol === 'connect-h1') {
    const Agent = new URL(baseUrl).protocol === 'https:' ? HttpsAgent : HttpAgent;
    const agent = new Agent({ keepAlive: true });
    const transport = createConnectTransport({ baseUrl, httpVersion: '1.1', nodeOptions: { agent } });
    return { transport, close: () => agent.destroy() };
  }
  if (protocol !== 'grpc' && protocol !== 'connect')
    throw new TypeError(`protocol must be 'grpc', 'connect' or 'connect-h1', not ${JSON.stringify(protocol)}`);
  const sessionManager = new Http2Sessions(baseUrl);
  const create = protocol === 'grpc' ? createGrpcTransport : createConnectTransport;
  return {
    transport: create({ baseUrl, httpVersion: '2', sessionManager }),
    close: () => sessionManager.abort(),
  };
}
