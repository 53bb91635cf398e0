/** The text of a gRPC status as it crosses in `grpc-message`. */
import type { UniversalServerResponse } from '@connectrpc/connect/protocol';

const HEADER = 'grpc-message';

/** What has to be escaped: bytes beyond printable ASCII, the escape itself, and spaces that would be trimmed. */
const ESCAPED = /[^\x20-\x7e]+|%|^ | $/gu;

/**
 * The response with its message escaped as little as gRPC allows (Percent-Encoded of PROTOCOL-HTTP2.md). Clients are to take
 * any escape, but some, `@grpc/grpc-js` among them, leave those of commas, slashes and other marks in what they show.
 */
export function withPlainMessage(response: UniversalServerResponse): UniversalServerResponse {
  const { status, header, body } = response;
  return {
    status,
    ...(header && { header }),
    ...(body && { body }),
    // Looked at behind the body, when the outcome is known.
    get trailer() {
      return plain(response.trailer);
    },
  };
}

function plain(trailer: Headers | undefined): Headers | undefined {
  const message = trailer?.get(HEADER);
  if (message == null) return trailer;
  const changed = new Headers(trailer);
  changed.set(HEADER, decodeURIComponent(message).replace(ESCAPED, encodeURIComponent));
  return changed;
}
