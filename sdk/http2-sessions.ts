import type { ClientHttp2Session } from 'node:http2';
import { Http2SessionManager } from '@connectrpc/connect-node';

/**
 * HTTP/2 connections whose errors are told by the calls alone. Node raises the error of a broken session a little after
 * those of its streams; a client that is closed in between has no listener for it left, and the process would end.
 */
export class Http2Sessions extends Http2SessionManager {
  readonly #heard = new WeakSet<ClientHttp2Session>();

  override async request(
    ...request: Parameters<Http2SessionManager['request']>
  ): ReturnType<Http2SessionManager['request']> {
    const stream = await super.request(...request);
    const { session } = stream;
    if (session !== undefined && !this.#heard.has(session as ClientHttp2Session)) {
      this.#heard.add(session as ClientHttp2Session);
      session.on('error', () => {});
    }
    return stream;
  }
}
