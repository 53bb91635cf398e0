/** `/workflows`: register and list; what a single workflow has is in `models.ts`, with the models. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import type { CallContext, Services } from '../service/types.js';
import type { WorkflowSource } from '../service/workflows/types.js';
import { decodeBody } from './body.js';
import { callContext } from './call-context.js';
import { workflowLine } from './endpoints.js';
import { invalidField } from './fields.js';
import { pageOf } from './pages.js';
import { booleanText, singleValues } from './query.js';
import { addRoute } from './route.js';

/** Adds the routes. */
export function addWorkflowRoutes(app: FastifyInstance, services: Services): void {
  addRoute(app, '/workflows', 'management', {
    GET: async (request) => {
      // A model is a workflow of one model.
      const direct = services.management.list().filter((model) => model.direct);
      const all = [...services.workflows.list(), ...direct.map(({ name }) => ({ name, version: '' }))];
      const { items, nextPageToken } = pageOf(request, all, ({ name, version }) => [name, version]);
      return { ...nextPageToken, workflows: items.map(workflowLine) };
    },
    POST: (request, reply) => register(services, request, reply),
  });
}

async function register(services: Services, request: FastifyRequest, reply: FastifyReply): Promise<object> {
  const { synchronous, url, template, ...parameters } = singleValues(request);
  const wait = booleanText(synchronous, 'synchronous') ?? true;
  const source = sourceOf(request, url, template, parameters);
  return registerWorkflow(services, source, wait, callContext(request, reply), reply);
}

/**
 * Registers a workflow.
 * @param wait false: answers 202 at once
 * @returns the status text of the original
 */
export async function registerWorkflow(
  services: Services,
  source: WorkflowSource,
  wait: boolean,
  call: CallContext,
  reply: FastifyReply,
): Promise<object> {
  if (wait) {
    const { name } = await services.workflows.register(source, call);
    return { status: `Workflow "${name}" registered.` };
  }
  // Nobody waits for it, so that nobody's leaving ends it.
  const scheduled = await services.workflows.schedule(source, { ...call, signal: new AbortController().signal });
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
  if (!template && url) requireNone(parameters);
  if ((template || url) && Buffer.isBuffer(request.body) && request.body.toString().trim() !== '') {
    throw new AppError('INVALID_REQUEST', 'a workflow is told by the query or by the body, not by both');
  }
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

/** A parameter that nothing reads would be passed over in silence. */
function requireNone(parameters: Readonly<Record<string, string>>): void {
  const [unknown] = Object.keys(parameters);
  if (unknown !== undefined) {
    throw invalidField(
      unknown,
      'is no parameter of this call; there are url, synchronous and, for templates, template',
    );
  }
}
