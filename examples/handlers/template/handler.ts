/**
 * Adapters with a prompt template of their own: an adapter that is registered with `template=Ask: {input}` answers with
 * its weights to that prompt. `{"inputs": "...", "adapters": "name", "stream": true}` streams lines of `{"text"}`.
 */
import { defineHandler, HandlerError, type Input } from '@loramux/sdk/handler';

const templates = new Map<string, string>();

function setTemplate(input: Input): void {
  const template = input.containsKey('template') ? input.getAsString('template')! : '{input}';
  if (!template.includes('{input}')) throw new HandlerError('the template must hold {input}', 400);
  templates.set(input.getProperty('name')!, template);
}

export default defineHandler({
  registerAdapter: setTemplate,
  updateAdapter: setTemplate,

  unregisterAdapter(input) {
    templates.delete(input.getProperty('name')!);
  },

  async handle(input, context) {
    const body = input.getAsJson() as { inputs?: unknown; adapters?: unknown; stream?: boolean } | undefined;
    if (typeof body?.inputs !== 'string') throw new HandlerError('inputs must be a text', 400);
    const adapter = input.getAdapter() ?? body.adapters ?? '';
    // A list would find no template, and be answered without one.
    if (typeof adapter !== 'string') throw new HandlerError('adapters must be the name of one adapter', 400);
    const text = (templates.get(adapter) ?? '{input}').replace('{input}', () => body.inputs as string);
    const request = { inputs: [{ text, adapter }], parameters: { maxNewTokens: 16 } };
    if (!body.stream) {
      const [result] = await context.generate(request);
      return { prompt: text, generated_text: result!.text };
    }
    return (async function* () {
      for await (const event of context.stream(request)) if (event.type === 'delta') yield { text: event.text };
    })();
  },
});
