import type { Socket } from 'node:net';

/** What every HTTP/2 client sends first when it knows that the server speaks HTTP/2 (RFC 9113, section 3.4). */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

/** The protocol of a cleartext connection. */
export type Sniffed = 'h1' | 'h2';

/**
 * Tells HTTP/2 from HTTP/1.1 by the first bytes of a connection. They are put back, so that whoever takes the socket
 * reads it from the start. A client that has not sent enough after `timeoutMs` is cut off, however slowly it drips.
 *
 * @param decide called once, unless the connection dies first
 */
export function sniff(socket: Socket, timeoutMs: number, decide: (protocol: Sniffed) => void): void {
  let undecided = true;
  const drop = (): void => {
    socket.destroy();
  };
  // What has come meanwhile is read first: a process that was kept from running for that long is late itself.
  const timer = setTimeout(() => setImmediate(() => undecided && drop()), timeoutMs);
  timer.unref();
  socket.once('close', () => clearTimeout(timer));
  socket.on('error', drop);
  socket.once('end', drop);
  // Bytes read while undecided are kept here: putting them back at once would make the socket readable again at once,
  // and a client that stops in the middle of the preface would keep the process busy.
  let head = Buffer.alloc(0);
  const read = (): void => {
    const chunk = socket.read() as Buffer | null;
    if (chunk !== null) head = Buffer.concat([head, chunk]);
    const length = Math.min(head.length, PREFACE.length);
    const mayBeH2 = head.subarray(0, length).equals(PREFACE.subarray(0, length));
    if (mayBeH2 && length < PREFACE.length) {
      socket.once('readable', read);
      return;
    }
    clearTimeout(timer);
    undecided = false;
    socket.off('error', drop);
    socket.off('end', drop);
    socket.unshift(head);
    decide(mayBeH2 ? 'h2' : 'h1');
  };
  socket.once('readable', read);
}
