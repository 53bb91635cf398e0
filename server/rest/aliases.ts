/** Aliases: `/models/{model}/aliases...` and, where one model is served, `/aliases...`. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import type { Services, SetAliasRequest } from '../service/types.js';
import { aliasJson } from './adapter-json.js';
import { adapterModel } from './adapter-model.js';
import { decodeBody, isObject } from './body.js';
import { callContext } from './call-context.js';
import { invalidField, kindOf, numberField } from './fields.js';
import { singleValues } from './query.js';
import { addRoute } from './route.js';

/** Adds both forms of the routes. */
export function addAliasRoutes(app: FastifyInstance, services: Services): void {
  for (const prefix of ['/models/:model/aliases', '/aliases']) {
    addRoute(app, prefix, 'management', {
      GET: async (request) => {
        const aliases = await services.adapters.listAliases({ model: adapterModel(services, request).name });
        return { aliases: aliases.map(aliasJson) };
      },
    });
    addRoute(app, `${prefix}/:alias`, 'management', {
      GET: async (request) => aliasJson(await services.adapters.getAlias(target(services, request))),
      PUT: (request, reply) => set(services, request, reply),
      DELETE: async (request, reply) =>
        aliasJson(await services.adapters.deleteAlias(target(services, request), callContext(request, reply))),
    });
  }
}

function target(services: Services, request: FastifyRequest): { model: string; name: string } {
  return { model: adapterModel(services, request).name, name: (request.params as { alias: string }).alias };
}

/** `?adapter=NAME` (and `&digest=`), or a body `{"targets": [{"adapter", "digest"?, "share"?}]}`. */
async function set(services: Services, request: FastifyRequest, reply: FastifyReply): Promise<object> {
  const asked = target(services, request);
  const { adapter, digest, ...others } = singleValues(request);
  const [unread] = Object.keys(others);
  if (unread !== undefined) throw invalidField(unread, 'is no parameter of this call; there are adapter, digest');
  const body = decodeBody(request.body, request.headers['content-type']);
  const fields = body.kind === 'json' && isObject(body.value) ? body.value : undefined;
  if (fields === undefined && !adapter) {
    throw invalidField('targets', 'is missing; send {"targets": [{"adapter": NAME}]}, or name one with ?adapter=');
  }
  const misspelt = Object.keys(fields ?? {}).find((key) => key !== 'targets');
  if (misspelt !== undefined) throw invalidField(misspelt, 'is not known; targets is');
  if (fields !== undefined && (adapter ?? digest) !== undefined) {
    throw new AppError('INVALID_REQUEST', 'an alias is told by the query or by the body, not by both');
  }
  const targets = fields === undefined ? [{ adapter: adapter!, digest }] : targetsOf(fields.targets);
  return aliasJson(await services.adapters.setAlias({ ...asked, targets }, callContext(request, reply)));
}

function targetsOf(value: unknown): SetAliasRequest['targets'] {
  if (!Array.isArray(value)) throw invalidField('targets', `must be a list, not ${kindOf(value)}`);
  return value.map((one: unknown, at) => {
    const field = `targets[${at}]`;
    if (!isObject(one)) throw invalidField(field, `must be an object with an adapter, not ${kindOf(one)}`);
    const unknown = Object.keys(one).find((key) => !['adapter', 'digest', 'share'].includes(key));
    if (unknown !== undefined) throw invalidField(`${field}.${unknown}`, 'is not known; adapter, digest, share are');
    const { adapter, digest } = one;
    if (typeof adapter !== 'string') throw invalidField(`${field}.adapter`, `must be a name, not ${kindOf(adapter)}`);
    if (digest !== undefined && typeof digest !== 'string') {
      throw invalidField(`${field}.digest`, `must be a digest, not ${kindOf(digest)}`);
    }
    return { adapter, digest, share: numberField(one.share, `${field}.share`) };
  });
}
