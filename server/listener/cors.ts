/** Which pages of other origins may call the server, for every protocol on the port (fetch, Connect, gRPC-Web). */
import cors from 'cors';
import type { RequestHandler } from './exchange.js';

/** Headers of answers that a page may read: ids, receipts, tokens, and the status of gRPC-Web. */
const EXPOSED = [
  'x-request-id',
  'x-loramux-adapter',
  'x-loramux-ignored',
  'x-next-token',
  'x-amzn-sagemaker-custom-attributes',
  'retry-after',
  'grpc-status',
  'grpc-message',
  'grpc-status-details-bin',
];
/** How long a browser may remember what a preflight said, in seconds; browsers cap it at two hours or less. */
const MAX_AGE_S = 7200;

/**
 * Answers preflights and marks answers, where pages of other origins are allowed; else the handler alone.
 * @param origins `*`, or origins separated by commas; undefined or empty = none
 */
export function withCors(origins: string | undefined, handler: RequestHandler): RequestHandler {
  const allowed = (origins ?? '')
    .split(',')
    .map((origin) => origin.trim())
    .filter((origin) => origin !== '');
  if (allowed.length === 0) return handler;
  const mark = cors({
    origin: allowed.includes('*') ? '*' : allowed,
    methods: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
    exposedHeaders: EXPOSED,
    maxAge: MAX_AGE_S,
    preflightContinue: true,
  });
  return (req, res) => {
    mark(req as never, res as never, () => {
      // Without these two an OPTIONS request is an ordinary one that routes may answer.
      if (req.method !== 'OPTIONS' || !req.headers.origin || !req.headers['access-control-request-method']) {
        handler(req, res);
        return;
      }
      res.statusCode = 204;
      res.end();
    });
  };
}
