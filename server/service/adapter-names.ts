/** The names under which callers, their platforms, and other servers tell adapters. */

/** Header in which SageMaker's platform tells the adapter of a request. */
export const IDENTIFIER_HEADER = 'x-amzn-sagemaker-adapter-identifier';

/** Header with the attributes that platforms pass on: `key=value` parts, split at ";". */
export const CUSTOM_ATTRIBUTES = 'x-amzn-sagemaker-custom-attributes';

/** Without case, `_`, `-` and `[]`, in which spellings differ. */
const ADAPTER_NAMES = new Set([
  ...['adapter', 'adapters', 'adapterid', 'adaptername', 'adapterids', 'adapternames', 'adapterparameters'],
  ...['lora', 'loras', 'loraid', 'loraname', 'lorapath', 'lorarequest', 'loraadapter', 'loraadapters'],
]);

/** Whether a field, parameter or header of that name looks like an adapter's: passed over, the base model would answer. */
export function looksLikeAdapter(name: string): boolean {
  return ADAPTER_NAMES.has(name.toLowerCase().replace(/[_\-[\]]/g, ''));
}

/** The `key=value` parts of {@link CUSTOM_ATTRIBUTES}, trimmed, keys in lower case. */
export function customAttributes(header: string | undefined): [key: string, value: string][] {
  return (header ?? '').split(';').flatMap((part): [string, string][] => {
    const at = part.indexOf('=');
    return at < 0 ? [] : [[part.slice(0, at).trim().toLowerCase(), part.slice(at + 1).trim()]];
  });
}
