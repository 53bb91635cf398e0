/** `/workflows`: register and list; what a single workflow has is in `models.ts`, with the models. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import type { Services } from '../service/types.js';
import type { WorkflowSource } from '../service/workflows/types.js';
import { decodeBody } from './body.js';
import { callContext } from './call-context.js';
import { workflowLine } from './endpoints.js';
import { pageOf } from './models.js';
import { booleanText, singleValues } from './query.js';
import { addRoute } from './route.js';

/** Adds the routes. */
export function addWorkflowRoutes(app: FastifyInstance, services: Services): void {
  addRoute(app, '/workflows', 'management', {
    GET: async (request) => {
      // A model is a workflow of one model.
      const direct = services.management.list().filter((model) => model.direct);
      const all = [...services.workflows.list(), ...direct.map(({ name }) => ({ name, version: '' }))];
      const sorted = all.sort((a, b) => (`${a.name}\0${a.version}` < `${b.name}\0${b.version}` ? -1 : 1));
      const { items, nextPageToken } = pageOf(request, sorted);
      return { ...nextPageToken, workflows: items.map(workflowLine) };
    },
    POST: (request, reply) => register(services, request, reply),
  });
}

async function register(services: Services, request: FastifyRequest, reply: FastifyReply): Promise<object> {
  const { synchronous, url, template, ...parameters } = singleValues(request);
  const wait = booleanText(synchronous, 'synchronous') ?? true;
  const source = sourceOf(request, url, template, parameters);
  if (wait) {
    const { name } = await services.workflows.register(source, callContext(request, reply));
    return { status: `Workflow "${name}" registered.` };
  }
  const call = { requestId: request.id, signal: new AbortController().signal };
  const scheduled = await services.workflows.schedule(source, call);
  reply.code(202);
  return { status: `Workflow "${scheduled.name}" registration scheduled.` };
}

/** From the query, as the original has it, or the definition itself as the body. */
function sourceOf(
  request: FastifyRequest,
  url: string | undefined,
  template: string | undefined,
  parameters: Readonly<Record<string, string>>,
): WorkflowSource {
  if (template) return { kind: 'template', template, parameters: { ...parameters, ...(url !== undefined && { url }) } };
  if (url) return { kind: 'url', url };
  const type = (request.headers['content-type'] ?? '').split(';', 1)[0]!.trim().toLowerCase();
  if (/^(application|text)\/(x-)?yaml$/.test(type)) return { kind: 'text', text: String(request.body) };
  const body = decodeBody(request.body, request.headers['content-type']);
  if (body.kind === 'json') return { kind: 'text', text: String(request.body) };
  if (body.kind === 'text' && body.text.trim() !== '') return { kind: 'text', text: body.text };
  throw new AppError('INVALID_REQUEST', 'give the workflow: url=, template=, or its definition as the body', {
    violations: [{ field: 'url', description: 'is missing' }],
  });
}
