/** What a handler is told of an adapter, in the form of the original's registrations. */
import type { InputParts } from '../../sdk/handler-input.js';
import type { CreateAdapterRequest } from '../service/types.js';

/** Properties `name` and `src`; content as the parameters of the registration, options included. */
export function inputOf({ name, source, preload, pin, options }: CreateAdapterRequest): InputParts {
  const fields: [string, string][] = [
    ['name', name],
    ...(source === '' ? [] : ([['src', source]] as [string, string][])),
    ...(preload === undefined ? [] : ([['preload', String(preload)]] as [string, string][])),
    ...(pin === undefined ? [] : ([['pin', String(pin)]] as [string, string][])),
    ...Object.entries(options ?? {}),
  ];
  return {
    properties: fields.filter(([key]) => key === 'name' || key === 'src'),
    content: fields.map(([key, value]) => ({ key, value: Buffer.from(value) })),
  };
}
