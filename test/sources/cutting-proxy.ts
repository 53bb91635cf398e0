/** A TCP proxy that passes everything on, and breaks the connections that a test wants broken. */
import { connect, createServer, type Socket } from 'node:net';

export interface CuttingProxy {
  readonly endpoint: string;
  /** Bytes after which the next answers that are longer end; each entry is used once. */
  readonly cuts: number[];
  close(): Promise<void>;
}

/** Starts a proxy for a local port. */
export async function cuttingProxy(target: string): Promise<CuttingProxy> {
  const cuts: number[] = [];
  const open = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(Number(new URL(target).port), '127.0.0.1');
    let passed = 0;
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        open.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    client.on('data', (bytes) => {
      passed = 0;
      upstream.write(bytes);
    });
    upstream.on('data', (bytes) => {
      const cut = cuts[0];
      if (cut === undefined || passed + bytes.length <= cut) {
        passed += bytes.length;
        client.write(bytes);
        return;
      }
      cuts.shift();
      client.write(bytes.subarray(0, cut - passed), () => client.destroy());
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  return {
    endpoint: `http://127.0.0.1:${port}`,
    cuts,
    close: async () => {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
