/**
 * Adapters with a prompt template of their own: an adapter that is registered with `template=Ask: {input}` answers with
 * its weights to that prompt. `{"inputs": "...", "adapters": "name", "stream": true}` streams lines of `{"text"}`.
 */
import { defineHandler, HandlerError } from '@loramux/sdk/handler';

const templates = new Map<string, string>();

export default defineHandler({
  registerAdapter(input) {
    const template = input.getAsString('template') ?? '{input}';
    if (!template.includes('{input}')) throw new HandlerError('the template must hold {input}', 400);
    templates.set(input.getProperty('name')!, template);
  },

  unregisterAdapter(input) {
    templates.delete(input.getProperty('name')!);
  },

  async handle(input, context) {
    const body = input.getAsJson() as { inputs?: unknown; adapters?: string; stream?: boolean } | undefined;
    if (typeof body?.inputs !== 'string') throw new HandlerError('inputs must be a text', 400);
    const adapter = input.getAdapter() ?? body.adapters ?? '';
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
