/** Entry for browsers, and for everything else that has `fetch`. */
import { createConnectTransport } from '@connectrpc/connect-web';
import { checkClientOptions } from './check-options.js';
import { type ClientOptions, TransportClient } from './client.js';

export * from './public.js';

/** Options of a client that uses `fetch`. */
export interface LoramuxClientOptions extends ClientOptions {
  /** Replaces the global `fetch`. */
  fetch?: typeof globalThis.fetch | undefined;
}

/** A client that needs nothing but `fetch`. On Node, `@loramux/sdk/node` also speaks gRPC and HTTP/2. */
export class LoramuxClient extends TransportClient {
  constructor(options: LoramuxClientOptions = {}) {
    const baseUrl = checkClientOptions(options, ['fetch']);
    const { fetch } = options;
    super(createConnectTransport({ baseUrl, ...(fetch && { fetch }) }), options);
  }
}
