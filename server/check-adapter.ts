/** `loramux validate`: an adapter's report as text or JSON. */
import { type AdapterReport, validateAdapter } from './adapters/validate-adapter.js';
import { SUPPORTED_FEATURES } from './engine/features.js';
import { openModelFolder } from './model/model-folder.js';
import { adapterBaseOf } from './model/module-table.js';

/** Checks the adapter in `folder` against the model in `modelDir`. Throws MODEL_INVALID. */
export async function checkAdapter(
  modelDir: string,
  folder: string,
  json: boolean,
): Promise<{ readonly text: string; readonly valid: boolean }> {
  const model = await openModelFolder(modelDir);
  try {
    const request = { folder, roots: [folder], supportedFeatures: SUPPORTED_FEATURES };
    const report = await validateAdapter(request, adapterBaseOf(model));
    return { text: json ? `${JSON.stringify(report, null, 2)}\n` : render(report), valid: report.valid };
  } finally {
    await model.close();
  }
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
