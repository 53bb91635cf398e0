/** Registers a path with all its methods, so that a wrong method is 405 with the right ones and not 404. */
import type { FastifyInstance, RouteHandlerMethod } from 'fastify';
import { AppError } from '../errors.js';
import type { Surface } from './errors.js';

type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE' | 'OPTIONS';
const ALL: readonly Method[] = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

/** Adds a path; OPTIONS answers `{}` unless a handler is given for it. HEAD goes with GET. */
export function addRoute(
  app: FastifyInstance,
  url: string,
  surface: Surface,
  handlers: Partial<Record<Method, RouteHandlerMethod>>,
): void {
  const offered = ALL.filter((method) => handlers[method]);
  const allow = [...new Set([...offered, 'OPTIONS'])].join(', ');
  const options: RouteHandlerMethod = async (_request, reply) => reply.header('allow', allow).send({});
  const refused: RouteHandlerMethod = async (request, reply) => {
    reply.header('allow', allow);
    throw new AppError('METHOD_NOT_ALLOWED', `${request.method} is not offered here; the path takes ${allow}`);
  };
  for (const method of ALL) {
    const handler = handlers[method] ?? (method === 'OPTIONS' ? options : refused);
    app.route({ method, url, handler, config: { surface } });
  }
}
