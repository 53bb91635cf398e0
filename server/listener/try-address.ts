/** Whether an address can be listened on: to be known before anything is loaded. */
import * as net from 'node:net';

/**
 * Listens for a moment and stops again. Nobody is kept waiting by it: who connects before the server is ready is refused,
 * as where nothing listens. Rejects with Node's error, for example `EADDRINUSE`.
 */
export function tryAddress(host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = net.createServer((socket) => socket.destroy());
    server.once('error', reject);
    server.listen(port, host, () => server.close(() => resolve()));
  });
}
