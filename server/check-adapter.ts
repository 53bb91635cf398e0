/** `loramux validate`: an adapter's report as text or JSON. */
import { servedBase } from './adapters/base-identity.js';
import { type AdapterReport, validateAdapter } from './adapters/validate-adapter.js';
import { type FoundModel, openModelUrl } from './config/open-model.js';
import type { AdapterCheck } from './config/parse.js';
import { SUPPORTED_FEATURES } from './engine/features.js';
import { AppError } from './errors.js';
import { openModelFolder } from './model/model-folder.js';
import { adapterBaseOf } from './model/module-table.js';
import { createSourceResolver, type SourceResolver } from './sources/source-resolver.js';

/**
 * Checks an adapter against a model as a registration there would, with the limits of the model's `serving.properties`;
 * fetches what is elsewhere. Throws MODEL_INVALID, LORA_DISABLED, and what sources throw.
 */
export async function checkAdapter(check: AdapterCheck): Promise<{ readonly text: string; readonly valid: boolean }> {
  const sources = createSourceResolver(check.sources);
  const held: (() => void)[] = [];
  try {
    const { source, origin } = await openModel(check, sources, held);
    const { name, path, loraEnabled, limits } = source;
    if (!loraEnabled)
      throw new AppError('LORA_DISABLED', `model ${name} is served without LoRA, so it takes no adapter`);
    const adapter = await sources.open({ source: check.source, kind: 'adapter', base: path, trusted: true });
    held.push(() => adapter.release());
    const model = await openModelFolder(path);
    try {
      const report = await validateAdapter(
        {
          folder: adapter.path,
          roots: adapter.roots,
          supportedFeatures: SUPPORTED_FEATURES,
          maxRank: limits.maxLoraRank,
          baseCheck: check.baseCheck,
        },
        servedBase(adapterBaseOf(model), name, origin),
      );
      return { text: check.json ? `${JSON.stringify(report, null, 2)}\n` : render(report), valid: report.valid };
    } finally {
      await model.close();
    }
  } finally {
    for (const release of held) release();
    await sources.close();
  }
}

/** The model that is checked against, here now. */
async function openModel(
  { model }: AdapterCheck,
  sources: SourceResolver,
  held: (() => void)[],
): Promise<Pick<FoundModel, 'source' | 'origin'>> {
  if ('path' in model) return { source: model };
  const { url, name, settings, cwd } = model;
  const places = { roots: [], store: undefined, settings, sources };
  const found = await openModelUrl(url, name, places, { trusted: true, cwd });
  held.push(() => found.release());
  return found;
}

function render({ valid, reason, faults, tensors, summary }: AdapterReport): string {
  const lines = tensors.map(({ name, dtype, shape, module, use, rank, scaling }) => {
    const place = module === '' ? 'goes nowhere' : `-> ${module} ${use}`;
    const scale = rank === undefined ? '' : `, rank ${rank}, scaling ${scaling}`;
    return `  ${name} ${dtype} [${shape.join(', ')}] ${place}${scale}`;
  });
  if (summary !== undefined) {
    lines.push(`digest ${summary.digest}`);
    lines.push(`features: ${summary.features.join(', ')}; ${summary.bytes} bytes when loaded`);
    for (const warning of summary.warnings) lines.push(`warning: ${warning}`);
  }
  for (const fault of faults) lines.push(`fault: ${fault}`);
  lines.push(valid ? 'valid: every tensor is bound' : `refused: ${reason}`);
  return `${lines.join('\n')}\n`;
}
