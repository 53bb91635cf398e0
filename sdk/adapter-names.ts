/**
 * Names under which other servers, HTTP bodies and slips tell adapters. The SDK and the server refuse them wherever nothing
 * reads them: passed over, the base model would answer.
 */

/** Without case, `_`, `-` and `[]`, in which spellings differ, and without the `x-` of headers. */
const ADAPTER_NAMES = new Set([
  ...['adapter', 'adapters', 'adapterid', 'adaptername', 'adapterids', 'adapternames', 'adapterparameters'],
  ...['adaptersource', 'adapterweights', 'activeadapter', 'activeadapters', 'mergedadapters', 'loramuxadapter'],
  ...['lora', 'loras', 'loraid', 'loraname', 'lorapath', 'lorarequest', 'loraadapter', 'loraadapters'],
  ...['loraintid', 'lorataskid', 'lorauid', 'lorauids', 'loraweights', 'loramodule', 'loramodules'],
]);

/** Whether a field, parameter or header of that name looks like an adapter's. */
export function looksLikeAdapter(name: string): boolean {
  return ADAPTER_NAMES.has(
    name
      .toLowerCase()
      .replace(/^x[_-]/, '')
      .replace(/[_\-[\]]/g, ''),
  );
}
