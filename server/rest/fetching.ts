/** Requests that fetch an answer by its token. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Services } from '../service/types.js';
import { readPlaces } from './adapter-places.js';
import { type Asked, modelFieldOf, requireSameAdapters, requireSameModel } from './asked.js';
import { type Body, isObject } from './body.js';
import type { Compat } from './compat.js';
import { readBody, readFields } from './content.js';
import type { FormField } from './form.js';
import { refuseUnread } from './ignored.js';
import type { LaterAnswers } from './later.js';
import { maxItems, tellNext } from './later-headers.js';
import { isAdapter } from './registered-names.js';

/** The model that a request names, if it names any. */
export type NameOf = (request: FastifyRequest, fields: readonly FormField[] | undefined) => string | undefined;

/** Answers a request that fetches: 200 with what there is, 202 where there is nothing yet. */
export async function answerFetch(
  services: Services,
  later: LaterAnswers,
  token: string,
  request: FastifyRequest,
  reply: FastifyReply,
  { compat, nameOf }: { readonly compat: Compat; readonly nameOf: NameOf },
): Promise<void> {
  await requireAsAsked(services, later.asked(token), request, compat, nameOf);
  const { headers, pieces, status, next } = later.fetch(token, maxItems(request));
  if (next !== undefined) tellNext(reply, next);
  if (pieces.length === 0 && next !== undefined) {
    reply.code(202).send();
    return;
  }
  // As bytes: fastify would add a character set to the type of a text.
  reply
    .code(status)
    .headers(headers)
    .send(Buffer.concat(pieces.map((piece) => Buffer.from(piece as string))));
}

/** Clients may send the whole request again with the token; what differs from it is refused as it would be there. */
async function requireAsAsked(
  services: Services,
  asked: Asked,
  request: FastifyRequest,
  compat: Compat,
  nameOf: NameOf,
): Promise<void> {
  const fields = await readFields(request);
  requireSameModel(asked, nameOf(request, fields));
  const isHandled = asked.from.by === 'handler';
  const body = bodyOf(request, fields, isHandled);
  const isName = (name: string) => isAdapter(services, asked.owner, name);
  const places = await readPlaces(request, fields, body, { name: asked.model }, isName);
  const value = body?.kind === 'json' && isObject(body.value) ? body.value : {};
  const selected = requireSameAdapters(asked, places, modelFieldOf(body), compat);
  // What else is in a request to a handler is the handler's.
  if (isHandled) return;
  const { adapters: _places, model: _model, ...others } = value;
  const known = [asked.model, asked.owner];
  refuseUnread(request, { body: value, names: Object.keys(others), known, selected, chosen: selected }, compat);
}

/** @param isHandled a handler takes any bytes for a body */
function bodyOf(
  request: FastifyRequest,
  fields: readonly FormField[] | undefined,
  isHandled: boolean,
): Body | undefined {
  try {
    return readBody(request, fields);
  } catch (fault) {
    if (isHandled) return undefined;
    throw fault;
  }
}
