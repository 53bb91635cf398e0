/** Registers a path with all its methods, so that a wrong method is 405 with the right ones and not 404. */
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteHandlerMethod } from 'fastify';
import { AppError } from '../errors.js';
import type { Surface } from './errors.js';

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'OPTIONS';
const ALL: readonly Method[] = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/** The paths of an app, for methods that its router has no word for. */
const PATHS = new WeakMap<FastifyInstance, { readonly pattern: RegExp; readonly allow: string }[]>();

/** Why a path takes no method, where that is not told by those that it takes. */
export type WhyNone = (request: FastifyRequest) => string;

/** Adds a path; OPTIONS answers `{}` unless a handler is given for it. HEAD goes with GET. */
export function addRoute(
  app: FastifyInstance,
  url: string,
  surface: Surface,
  handlers: Partial<Record<Method, RouteHandlerMethod>>,
  whyNone?: WhyNone,
): void {
  const offered = ALL.filter((method) => handlers[method]);
  const allow = [...new Set([...offered, 'OPTIONS'])].join(', ');
  const options: RouteHandlerMethod = async (_request, reply) => reply.header('allow', allow).send({});
  const refused: RouteHandlerMethod = async (request, reply) => {
    throw notAllowed(request, reply, allow, whyNone?.(request));
  };
  const known = PATHS.get(app) ?? [];
  PATHS.set(app, known);
  known.push({ pattern: new RegExp(`^${url.replace(/:[^/]+/g, '[^/]+')}/?$`), allow });
  for (const method of ALL) {
    const handler = handlers[method] ?? (method === 'OPTIONS' ? options : refused);
    app.route({ method, url, handler, config: { surface } });
  }
}

/** What a request is told that no route has taken: 405 where the path is there and the method is one like PROPFIND. */
export function notFound(app: FastifyInstance, request: FastifyRequest, reply: FastifyReply): AppError {
  const path = pathOf(request.url);
  const { method } = request;
  // The router knows these, and found nothing.
  const routed = method === 'HEAD' || ALL.some((one) => one === method);
  const allow = routed ? undefined : PATHS.get(app)?.find(({ pattern }) => pattern.test(path))?.allow;
  if (allow !== undefined) return notAllowed(request, reply, allow);
  return new AppError('ROUTE_NOT_FOUND', `no such path: ${method} ${path}`);
}

/** The path without its query, which may hold what belongs in no log. */
export function pathOf(url: string): string {
  return url.split('?', 1)[0]!;
}

function notAllowed({ method }: FastifyRequest, reply: FastifyReply, allow: string, why?: string): AppError {
  reply.header('allow', allow);
  return new AppError('METHOD_NOT_ALLOWED', why ?? `${method} is not offered here; the path takes ${allow}`);
}
