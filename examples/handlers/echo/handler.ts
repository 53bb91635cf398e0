/** Answers with what it was sent: the adapter's name, the adapter's option `echooption`, and the payload. */
import { defineHandler, HandlerError, type Input } from '@loramux/sdk/handler';

/** Option of each registered adapter. */
const options = new Map<string, string>();

/** Registrations with `error` or `oom` are refused, so that callers can see what a refusal looks like. */
function refuse(input: Input): void {
  if (input.containsKey('error')) throw new HandlerError(`refused: ${input.getAsString('error')}`);
  if (input.containsKey('oom')) throw new HandlerError('no memory for the adapter', 507);
}

export default defineHandler({
  handle(input) {
    const adapter = input.getAdapter() ?? '';
    const payload = input.getAsString() ?? '';
    if (adapter === '') return payload;
    // A custom attribute may name what nobody registered: only `?adapter=` is looked up before the handler is called.
    if (!options.has(adapter)) return `dyn${adapter}${payload}`;
    return `${adapter}${options.get(adapter)}${payload}`;
  },

  registerAdapter(input) {
    refuse(input);
    options.set(input.getProperty('name')!, input.getAsString('echooption') ?? '');
  },

  updateAdapter(input) {
    refuse(input);
    options.set(input.getProperty('name')!, input.getAsString('echooption') ?? '');
  },

  unregisterAdapter(input) {
    options.delete(input.getProperty('name')!);
  },
});
