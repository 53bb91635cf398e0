/** What clients of a listener may do, and what is told where one does more. */

/** Told of clients that were cut, once for all that were between two looks: why, the address of one, and how many. */
export type CutTold = (reason: CutReason, address: string | undefined, count: number) => void;

/** Why a client was cut, as the log tells it. */
export type CutReason =
  | 'answer not read'
  | 'too much held'
  | 'body in crumbs'
  | 'no sign of life'
  | 'too many requests reset';

/** Bounds of what clients may do to a listener. */
export interface Patience {
  /** Time in which nothing of an answer that waits is taken. */
  readonly unreadMs: number;
  /** Bytes of unread answers and of bodies without an answer yet, of all connections together. */
  readonly heldBytes: number;
  /** HTTP/2: silence after which a client is asked whether it is there, and the time to say so. */
  readonly silenceMs: number;
  /** HTTP/2: a connection without a request is closed after this time. */
  readonly h2IdleMs: number;
}
