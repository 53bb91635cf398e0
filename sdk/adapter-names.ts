/**
 * Names under which other servers, HTTP bodies and slips tell adapters. The SDK and the server refuse them wherever nothing
 * reads them: passed over, the base model would answer.
 */

/** Words that say adapter, alone or with others: `peft_model`, `x-lora-id`, `useQLoRA`. Longer words have to begin so. */
const WORDS = /^(lora(?!mux)|([aq]|rs)lora|peft|dora$)/;
/** Names without such a word that choose an adapter somewhere, in lower case: a field of remote calls, and what aliases are. */
const CHOICES = new Set(['selection', 'selections', 'alias', 'aliases']);

/**
 * Whether a field, parameter or header of that name looks like an adapter's. All that has `adapter` in it does, however it is
 * spelt and whatever stands beside it: there are more such names than a list could hold.
 */
export function looksLikeAdapter(name: string): boolean {
  const known = judged.get(name);
  if (known !== undefined) return known;
  const looks = judge(name);
  if (judged.size < MAX_JUDGED && name.length <= MAX_LENGTH) judged.set(name, looks);
  return looks;
}

/** Verdicts on names: every request brings the headers of the one before. Bounded, as names are the callers'. */
const judged = new Map<string, boolean>();
const MAX_JUDGED = 1000;
const MAX_LENGTH = 64;

function judge(name: string): boolean {
  if (saysAdapter(name)) return true;
  return CHOICES.has(
    wordsOf(name)
      .filter((word) => word !== '' && word !== 'x')
      .join(''),
  );
}

/** Whether a name says by a word of its own that it is an adapter's, whatever stands around it. */
export function saysAdapter(name: string): boolean {
  if (/adapt[eo]r/i.test(name.replace(/[^a-z]/gi, ''))) return true;
  return wordsOf(name).some((word) => WORDS.test(word));
}

function wordsOf(name: string): string[] {
  return name
    .replaceAll('LoRA', 'Lora')
    .replace(/([a-z])([A-Z])/g, '$1 $2')
    .toLowerCase()
    .split(/[^a-z]+/);
}
