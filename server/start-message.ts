/** What the server prints when it is up: what it serves, and three commands to try. */
import type { AdapterInfo, ModelInfo } from './service/types.js';

/** Adapters of a model that are told one by one, besides those that failed. */
const MOST_ADAPTERS = 50;

/**
 * @param adapters of each model, in the order of `models`
 * @param registry where the registry is kept; undefined = nowhere
 */
export function startMessage(
  url: string,
  models: readonly ModelInfo[],
  adapters: readonly (readonly AdapterInfo[])[],
  registry: string | undefined,
): string {
  const kept = registry === undefined ? 'not kept: it ends with the process' : `kept in ${registry}`;
  const lines = [`loramux serves on ${url}`, `what is registered is ${kept}`, ''];
  for (const [i, model] of models.entries()) {
    const size =
      model.parameters >= 1e9 ? `${(model.parameters / 1e9).toFixed(1)}B` : `${(model.parameters / 1e6).toFixed(1)}M`;
    const weights = `${model.modelType}, ${size} weights, ${model.dtype}, context ${model.contextLength}`;
    const what = [...(model.parameters > 0 ? [weights] : []), ...(model.handler ? [`handler ${model.handler}`] : [])];
    lines.push(`  model ${model.name}: ${what.join('; ')}`);
    if (!model.loraEnabled) lines.push('    adapters are switched off');
    const told = adapters[i]!.filter(({ state }, at) => at < MOST_ADAPTERS || state === 'failed');
    for (const adapter of told) lines.push(`    ${describe(adapter)}`);
    const more = adapters[i]!.length - told.length;
    if (more > 0) lines.push(`    and ${more} more adapters`);
  }
  const at = models.findIndex(({ handler }) => handler === undefined);
  if (at < 0) {
    for (const { name } of models) lines.push('', `Its handler answers at ${url}/predictions/${name}`);
    return `${lines.join('\n')}\n`;
  }
  const model = models[at]!;
  const path = models.length > 1 ? `predictions/${model.name}` : 'invocations';
  const usable = adapters[at]!.filter(
    ({ state, handler }) => (state === 'ready' || state === 'registered') && !handler?.runs,
  ).map(({ name }) => name);
  const prompt = 'How is the weather';
  const many = usable.length > 0 ? [usable[0]!, ''] : [];
  const json = (value: unknown) => `'${JSON.stringify(value).replaceAll("'", "'\\''")}'`;
  const host = url.replace('http://', '');
  lines.push('', 'Try:');
  lines.push(
    `  curl -s ${url}/${path} -H 'content-type: application/json' -d ${json({ inputs: prompt, ...(usable[0] && { adapters: usable[0] }) })}`,
  );
  const inputs = many.length > 0 ? [prompt, prompt] : [prompt];
  lines.push(
    `  curl -s ${url}/${path} -H 'content-type: application/json' -d ${json({ inputs, ...(many.length > 0 && { adapters: many }) })}`,
  );
  const rows = inputs.map((text, i) => ({ text, ...(many[i] && { adapter: many[i] }) }));
  lines.push(
    `  grpcurl -plaintext -d ${json({ ...(models.length > 1 && { model: model.name }), inputs: rows })} ${host} loramux.v1.InferenceService/StreamPredict`,
  );
  return `${lines.join('\n')}\n`;
}

function describe(info: AdapterInfo): string {
  const { name, state, error, ranks, targetModules, features, digest, source, handler } = info;
  if (state === 'failed') return `adapter ${name}: FAILED: ${error}`;
  const rank = ranks.length === 0 ? '' : `, rank ${ranks.join('/')}`;
  const kind = features.filter((feature) => feature !== 'lora').join(', ');
  const code = handler === undefined ? '' : `, ${handler.file}${handler.runs ? '' : ' (not run)'}`;
  const targets = targetModules.length === 0 ? source : targetModules.join(' ');
  return `adapter ${name}${digest === '' ? '' : ` @${digest.slice(0, 12)}`}${rank}${kind === '' ? '' : `, ${kind}`}${code} (${targets})`;
}
