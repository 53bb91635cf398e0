/** The HTTP/JSON surface as one fastify app: routes, headers that every answer has, and how failures look. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import { AppError } from '../errors.js';
import type { Services } from '../service/types.js';
import { addAdapterRoutes } from './adapters.js';
import { addAliasRoutes } from './aliases.js';
import type { Compat } from './compat.js';
import { failureOf, sendError } from './errors.js';
import { addInferenceRoutes } from './invocations.js';
import { LaterAnswers, type LaterLimits } from './later.js';
import { addModelRoutes } from './models.js';
import { addModelNameRoutes } from './openai-models.js';
import { addRoute, notFound, pathOf } from './route.js';
import { addWorkflowRoutes } from './workflows.js';

/** What the surface needs besides the services. */
export interface RestOptions {
  /** Largest request body, in bytes. */
  readonly maxBodyBytes: number;
  /** A pino logger; absent = no log. */
  readonly logger?: FastifyBaseLogger | undefined;
  /** True once the server ends; absent = never. */
  readonly draining?: (() => boolean) | undefined;
  /** Aborts when calls in flight are to end, with what their callers are to be told; absent = never. */
  readonly cut?: AbortSignal | undefined;
  /** How close to keep to DJL Serving; default strict. */
  readonly compat?: Compat | undefined;
  /** Bounds of the answers to fetch later; default 64 MiB and ten minutes. */
  readonly later?: LaterLimits | undefined;
  /** What `GET /metrics` answers; absent = no such path. */
  readonly metrics?: RestMetrics | undefined;
}

/** The part of the metrics that this surface uses. */
export interface RestMetrics {
  readonly contentType: string;
  text(): Promise<string>;
  /** Called once per answered request; `route` is the pattern, never the path, so that the label has few values. */
  request(route: string, method: string, status: number, seconds: number): void;
}

/** Longest names of models and adapters in a path, percent-encoded. */
const MAX_PARAM_LENGTH = 2048;

/** Builds the app, ready to serve by `app.routing(request, response)`; it does not listen by itself. */
export async function createRestApp(services: Services, options: RestOptions): Promise<FastifyInstance> {
  const app = Fastify({
    bodyLimit: options.maxBodyBytes,
    genReqId: requestIdOf,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    forceCloseConnections: false,
    // Paths that cannot be decoded come here, past all hooks.
    frameworkErrors: (error, request, reply) => {
      commonHeaders(request, reply);
      logAtEnd(request, reply, options.metrics);
      sendError(error, request, reply);
    },
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: MAX_PARAM_LENGTH },
    ...(options.logger ? { loggerInstance: options.logger } : {}),
  }) as unknown as FastifyInstance;
  app.decorate('cut', options.cut);
  // Bodies are decoded by the routes, so that the rules about content types stand in one place.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (request, body, done) => {
    const encoding = (request.headers['content-encoding'] ?? 'identity').trim().toLowerCase();
    if (encoding === 'identity') done(null, body);
    else done(new AppError('INVALID_REQUEST', `bodies are taken as they are, not with content-encoding ${encoding}`));
  });
  addCommonHeaders(app);
  addAccessLog(app, options.metrics);
  app.setErrorHandler((error, request, reply) => sendError(error, request, reply));
  app.setNotFoundHandler(async (request, reply) => {
    throw notFound(app, request, reply);
  });
  const later = new LaterAnswers(options.later ?? { maxBytes: 64 * 1024 * 1024, keepMs: 600_000 });
  app.addHook('onClose', async () => later.close(new AppError('SHUTTING_DOWN', 'the server is shutting down')));
  const { compat = 'strict' } = options;
  addInferenceRoutes(app, services, { compat, later });
  addModelNameRoutes(app, services, compat);
  addAdapterRoutes(app, services);
  addAliasRoutes(app, services);
  addModelRoutes(app, services, options.draining ?? (() => false));
  addWorkflowRoutes(app, services);
  const { metrics } = options;
  if (metrics) {
    addRoute(app, '/metrics', 'management', {
      GET: async (_request, reply) => reply.type(metrics.contentType).send(await metrics.text()),
    });
  }
  await app.ready();
  return app;
}

function commonHeaders(request: Pick<FastifyRequest, 'id'>, reply: Pick<FastifyReply, 'header'>): void {
  reply.header('x-request-id', request.id);
  reply.header('cache-control', 'no-cache, no-store, must-revalidate, private');
}

function addCommonHeaders(app: FastifyInstance): void {
  // Hooks call back rather than return a promise: each promise of a request is a detour.
  app.addHook('onRequest', (request, reply, done) => {
    commonHeaders(request, reply);
    done();
  });
  app.addHook('onSend', (request, reply, _payload, done) => {
    // HTTP/2 has no such header; fastify adds it to some error answers.
    if (request.raw.httpVersionMajor >= 2) reply.removeHeader('connection');
    done();
  });
}

function addAccessLog(app: FastifyInstance, metrics: RestMetrics | undefined): void {
  app.addHook('onRequest', (request, reply, done) => {
    logAtEnd(request, reply, metrics);
    done();
  });
}

function logAtEnd(request: FastifyRequest, reply: FastifyReply, metrics: RestMetrics | undefined): void {
  const started = performance.now();
  // "close" comes in every case; fastify's own hook does not run for a client that left in the middle of an answer.
  reply.raw.once('close', () => {
    const route = request.routeOptions.url ?? 'none';
    const milliseconds = performance.now() - started;
    // A client that left saw no end; it counts under the status that the error table has for it.
    const status = reply.raw.writableEnded ? reply.raw.statusCode : 499;
    metrics?.request(route, request.method, status, milliseconds / 1000);
    // Probes come every few seconds and say nothing.
    const level = route === '/ping' || route === '/metrics' ? 'debug' : 'info';
    const [path, reason, ms] = [pathOf(request.url), failureOf(request), Math.round(milliseconds)];
    request.log[level]({ method: request.method, path, status, ...(reason && { reason }), ms });
  });
}

/** The caller's id where it is fit for a header and a log line, else a new one. */
function requestIdOf(raw: { headers: IncomingMessage['headers'] }): string {
  const given = raw.headers['x-request-id'];
  return typeof given === 'string' && /^[\x21-\x7e]{1,128}$/.test(given) ? given : randomUUID();
}
