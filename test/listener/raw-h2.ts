/** Frames of HTTP/2 as bytes, for clients that no library would be. */
import { openRaw, type RawConnection } from './raw-client.js';

/** A frame. */
export function frame(type: number, flags: number, stream: number, payload: Uint8Array = new Uint8Array()): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** DATA. */
export const data = (stream: number, text: string, end = false): Buffer =>
  frame(0, end ? 1 : 0, stream, Buffer.from(text));

/** RST_STREAM with CANCEL. */
export const reset = (stream: number): Buffer => frame(3, 0, stream, Buffer.from([0, 0, 0, 8]));

/** HEADERS of a request; without `end` a body follows. */
export function request(stream: number, path: string, end = true): Buffer {
  const text = Buffer.concat([Buffer.from([4, path.length]), Buffer.from(path), Buffer.from([1, 1]), Buffer.from('a')]);
  return frame(1, end ? 5 : 4, stream, Buffer.concat([Buffer.from([end ? 0x82 : 0x83, 0x86]), text]));
}

/** Opens a connection with the largest windows, so that nothing but the client's reading holds an answer up. */
export async function openH2(port: number): Promise<RawConnection> {
  const connection = await openRaw(port);
  const most = Buffer.alloc(4);
  most.writeUInt32BE(2 ** 31 - 1 - 65_535);
  const initialWindow = Buffer.from([0, 4, 0x7f, 0xff, 0xff, 0xff]);
  connection.socket.write(
    Buffer.concat([
      Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
      frame(4, 0, 0, initialWindow),
      frame(8, 0, 0, most),
    ]),
  );
  return connection;
}
