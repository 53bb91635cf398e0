/**
 * Parameters of management calls, from the query and from the fields of a JSON body. A query knows texts only, so what is
 * said there is read as what it must be; in a body each field has its JSON type, and another is refused.
 */
import type { FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { decodeBody, isObject } from './body.js';
import { booleanField, integerField, invalidField, kindOf, textField } from './fields.js';
import { booleanText, integerText, singleValues } from './query.js';

/** The parameters of one call, each to be taken once; what is left at the end is somebody else's, or nobody's. */
export class ManagementParameters {
  readonly #query: Map<string, string>;
  readonly #body: Map<string, unknown>;

  /** @throws INVALID_REQUEST where the body is no JSON object, or a query parameter has several values */
  constructor(request: FastifyRequest) {
    this.#query = new Map(Object.entries(singleValues(request)));
    const body = decodeBody(request.body, request.headers['content-type']);
    const empty = body.kind === 'none' || (body.kind === 'text' && body.text.trim() === '');
    const fields = body.kind === 'json' ? body.value : empty ? {} : undefined;
    if (!isObject(fields)) throw new AppError('INVALID_REQUEST', 'the body must be a JSON object, or empty');
    this.#body = new Map(Object.entries(fields).filter(([, value]) => value !== null));
  }

  /** A text; absent and null = undefined. */
  text(name: string): string | undefined {
    return this.#take(name, (text) => text, textField);
  }

  /**
   * A text that changes what the call does: an empty one, as a script leaves it whose variable is not set, is refused
   * where it would have been passed over.
   */
  filled(name: string): string | undefined {
    const text = this.text(name);
    if (text === '') throw invalidField(name, 'is empty; leave it out where it is not meant');
    return text;
  }

  /** In a body true or false, in a query the words, in any letter case. */
  boolean(name: string): boolean | undefined {
    return this.#take(name, booleanText, booleanField);
  }

  /** A whole number; its range is the caller's to check. */
  integer(name: string): number | undefined {
    return this.#take(name, integerText, integerField);
  }

  /** Names that were not taken. */
  get left(): readonly string[] {
    return [...new Set([...this.#query.keys(), ...this.#body.keys()])];
  }

  /** All that is left, as texts: options of whoever reads them. Lists and objects are refused. */
  options(): Record<string, string> {
    const asText = (value: unknown, name: string): string => {
      if (typeof value === 'string' || typeof value === 'boolean' || typeof value === 'number') return String(value);
      throw invalidField(name, `must be a text, a number or a boolean, not ${kindOf(value)}`);
    };
    const taken = (name: string) =>
      this.#take(
        name,
        (text) => text,
        (value) => (value === undefined ? undefined : asText(value, name)),
      );
    return Object.fromEntries(this.left.map((name) => [name, taken(name)!]));
  }

  /** Refuses what is left: a misspelt parameter must not be passed over. @param known all that the call has */
  end(known: string): void {
    const [unknown] = this.left;
    if (unknown !== undefined) throw invalidField(unknown, `is no parameter of this call; there are ${known}`);
  }

  /** Query and body may name the same parameter only with the same value. */
  #take<T extends string | number | boolean>(
    name: string,
    fromQuery: (text: string, name: string) => T | undefined,
    fromBody: (value: unknown, name: string) => T | undefined,
  ): T | undefined {
    const asked = this.#query.get(name);
    const one = asked === undefined ? undefined : fromQuery(asked, name);
    const other = fromBody(this.#body.get(name), name);
    this.#query.delete(name);
    this.#body.delete(name);
    if (one !== undefined && other !== undefined && one !== other) {
      throw invalidField(name, `is ${JSON.stringify(one)} in the query and ${JSON.stringify(other)} in the body`);
    }
    return one ?? other;
  }
}
