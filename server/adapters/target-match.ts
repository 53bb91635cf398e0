/**
 * Which modules of the base an adapter's config names, by PEFT's rules (`check_target_module_exists`,
 * `get_pattern_key`, `_set_trainable` in huggingface/peft).
 */
import type { Faults } from './faults.js';
import type { ModuleMatcher, PeftConfig } from './peft-config.js';
import { compilePythonRegex, type PythonRegex } from './python-regex.js';
import { headlessPath } from './tensor-name.js';
import type { AdapterBase } from './types.js';
import { tiedAdaptation } from './weight-tying.js';

/** PEFT's targets for a config that names none (`TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING`). */
const DEFAULT_TARGETS: Readonly<Record<string, readonly string[]>> = {
  gpt2: ['c_attn'],
  gpt_bigcode: ['c_attn'],
  gpt_neox: ['query_key_value'],
  phi: ['q_proj', 'v_proj', 'fc1', 'fc2'],
  ...Object.fromEntries(
    'llama mistral mixtral stablelm gemma gemma2 gemma3_text qwen2 qwen3 gptj gpt_neo opt'
      .split(' ')
      .map((type) => [type, ['q_proj', 'v_proj']]),
  ),
};

/** What a config promises: these modules, at these ranks and scalings, and nothing else. */
export interface Promised {
  /** Modules with low-rank matrices -> their rank and scaling. */
  readonly lora: ReadonlyMap<string, { readonly rank: number; readonly scaling: number }>;
  /** Modules whose weights are in the file as a whole (modules_to_save). */
  readonly saved: ReadonlySet<string>;
  /** Modules that are adapted only because the config ties them to the one that it names (ensure_weight_tying). */
  readonly tied: ReadonlySet<string>;
  /** Remarks: names that match nothing in this base. */
  readonly warnings: readonly string[];
}

type Test = (name: string) => boolean;

/** Compiles a config's regular expression, noting a fault if it is broken; then it matches nothing. */
function compile(pattern: string, field: string, faults: Faults): PythonRegex {
  const quoted = JSON.stringify(pattern.length > 200 ? `${pattern.slice(0, 200)}...` : pattern);
  const report = (error: unknown) =>
    faults.add(`adapter_config.json: ${field}: the regular expression ${quoted}: ${(error as Error).message}`);
  try {
    const regex = compilePythonRegex(pattern);
    let failed = false;
    const guard =
      <T>(run: (text: string) => T, otherwise: T) =>
      (text: string): T => {
        if (failed) return otherwise;
        try {
          return run(text);
        } catch (error) {
          failed = true;
          report(error);
          return otherwise;
        }
      };
    return { fullMatch: guard(regex.fullMatch, false), matchEnds: guard(regex.matchEnds, []) };
  } catch (error) {
    report(error);
    return { fullMatch: () => false, matchEnds: () => [] };
  }
}

/** A name itself or one of the list's entries as its last dotted parts. */
function endsWithAny(list: readonly string[]): Test {
  const names = new Set(list);
  return (name) => {
    for (let dot = -1; ; ) {
      if (names.has(name.slice(dot + 1))) return true;
      dot = name.indexOf('.', dot + 1);
      if (dot < 0) return false;
    }
  };
}

function matcherTest(matcher: ModuleMatcher, field: string, faults: Faults): Test {
  if (matcher === null) return () => false;
  if (typeof matcher !== 'string') return endsWithAny(matcher);
  const regex = compile(matcher, field, faults);
  return (name) => regex.fullMatch(name);
}

/** Layer number of a module by layers_pattern, as PEFT takes it: the first number that follows the pattern. */
function layerTest(config: PeftConfig, faults: Faults): Test {
  const wanted = config.layersToTransform;
  if (wanted === null || wanted.length === 0) return () => true;
  const patterns = config.layersPattern.length > 0 ? config.layersPattern : ['[^.]*'];
  const regexes = patterns.map((one) => compile(`(?:.*\\.)?(?:${one})\\.`, 'layers_pattern', faults));
  return (name) => {
    for (const regex of regexes) {
      for (const end of regex.matchEnds(name)) {
        const digits = /^(\d+)\./.exec(name.slice(end));
        if (digits !== null) return wanted.includes(Number(digits[1]));
      }
    }
    return false;
  };
}

function targetTest(config: PeftConfig, base: AdapterBase, faults: Faults): Test {
  let targets = config.targetModules;
  if (targets === null) {
    targets = Object.hasOwn(DEFAULT_TARGETS, base.modelType) ? DEFAULT_TARGETS[base.modelType]! : null;
    if (targets === null) {
      faults.add(`adapter_config.json: target_modules is null, and there is no default for a ${base.modelType} model`);
    }
  }
  if (typeof targets === 'string') {
    if (targets.toLowerCase() === 'all-linear') {
      return (name) => name !== base.headModule && base.modules.get(name)?.kind === 'linear';
    }
    return matcherTest(targets, 'target_modules', faults);
  }
  const exact = new Set(targets);
  const byEnding = matcherTest(targets, 'target_modules', faults);
  const inLayers = layerTest(config, faults);
  return (name) => exact.has(name) || (byEnding(name) && inLayers(name));
}

/**
 * First key for which `(.*\.)?(KEY)$` matches, as PEFT looks patterns up; undefined if none does. A headless adapter's
 * keys are about its own paths; one that only fits the base's path leaves open what was meant.
 */
function patternLookup(
  pattern: readonly (readonly [string, number])[],
  field: string,
  headless: boolean,
  faults: Faults,
): (name: string) => number | undefined {
  const compiled = pattern.map(([key, value]) => ({
    regex: compile(`(?:.*\\.)?(?:${key})`, field, faults),
    key,
    value,
  }));
  const find = (name: string) => compiled.find(({ regex }) => regex.fullMatch(name));
  if (!headless) return (name) => find(name)?.value;
  return (name) => {
    const own = headlessPath(name);
    const [found, other] = [find(own), find(name)];
    if (found === undefined && other !== undefined) {
      const keyed = `${field} has ${JSON.stringify(other.key)} for ${name}`;
      faults.add(`adapter_config.json: ${keyed}, but the adapter's tensors call that module ${own}`);
    }
    return found?.value;
  };
}

/** PEFT wraps every module whose dotted name ends with the text (not only with whole parts), and what is inside it. */
function savedTest(names: readonly string[]): Test {
  return (name) => {
    for (let dot = name.indexOf('.'); ; dot = name.indexOf('.', dot + 1)) {
      const path = dot < 0 ? name : name.slice(0, dot);
      if (names.some((one) => path.endsWith(one))) return true;
      if (dot < 0) return false;
    }
  };
}

/** A remark for every name of a list that matches no module of the base. */
function unmatched(list: readonly string[], test: (one: string) => Test, base: AdapterBase, field: string): string[] {
  const names = [...base.modules.keys()];
  return list
    .filter((one) => !names.some(test(one)))
    .map((one) => `${field} names ${JSON.stringify(one)}, which matches no module of the base`);
}

/** A test that also takes a module by its path in the model without its head. */
function orHeadless(test: Test): Test {
  return (name) => test(name) || test(headlessPath(name));
}

/**
 * Works out what the config promises for this base; broken patterns and impossible layers are noted in `faults`.
 * @param headless true: the adapter's paths are those of the model without its head
 */
export function promisedModules(config: PeftConfig, base: AdapterBase, headless: boolean, faults: Faults): Promised {
  for (const layer of config.layersToTransform ?? []) {
    if (layer >= base.layerCount) {
      faults.add(
        `adapter_config.json: layers_to_transform names layer ${layer}; the base has 0 to ${base.layerCount - 1}`,
      );
    }
  }
  // Which modules are meant may be told by either path: tensors that are missing or too many are noticed. A scale is not.
  const byEither = headless ? orHeadless : (test: Test) => test;
  const isTarget = byEither(targetTest(config, base, faults));
  const isExcluded = byEither(matcherTest(config.excludeModules, 'exclude_modules', faults));
  const isSaved = savedTest(config.modulesToSave);
  const savedPatterns = config.modulesToSave.map((one) =>
    compile(`(?:|.*\\.)(?:${one})(?:|\\..*)`, 'modules_to_save', faults),
  );
  const rankOf = patternLookup(config.rankPattern, 'rank_pattern', headless, faults);
  const alphaOf = patternLookup(config.alphaPattern, 'alpha_pattern', headless, faults);
  const sizesOf = (name: string) => {
    const rank = rankOf(name) ?? config.r;
    const alpha = alphaOf(name) ?? config.loraAlpha;
    return { rank, scaling: alpha / (config.useRslora ? Math.sqrt(rank) : rank) };
  };
  const lora = new Map<string, { rank: number; scaling: number }>();
  const saved = new Set<string>();
  const warnings: string[] = [];
  for (const module of base.modules.values()) {
    const { name } = module;
    if (headless && name === base.headModule) {
      if (isSaved(name) || isTarget(name)) warnings.push(`${name} is named, but the adapter is of a model without it`);
      continue;
    }
    if (config.modulesToSave.length > 0 && isSaved(name)) saved.add(name);
    if (isExcluded(name) || savedPatterns.some((regex) => regex.fullMatch(name)) || !isTarget(name)) continue;
    if (module.kind === 'norm') {
      faults.add(`adapter_config.json: target_modules matches the norm ${name}, which cannot have low-rank matrices`);
      continue;
    }
    lora.set(name, sizesOf(name));
  }
  // Without a head there is no table with two ends.
  const how = headless ? undefined : tiedAdaptation(config, base, isTarget);
  const tied = new Set<string>();
  for (const name of how === undefined ? [] : [base.embeddingModule, base.headModule]) {
    if (!(how === 'lora' ? lora : saved).has(name)) tied.add(name);
    if (how === 'lora') lora.set(name, sizesOf(name));
    else {
      saved.add(name);
      lora.delete(name);
    }
  }
  warnings.push(...unmatched(config.modulesToSave, (one) => savedTest([one]), base, 'modules_to_save'));
  if (Array.isArray(config.targetModules)) {
    warnings.push(...unmatched(config.targetModules, (one) => endsWithAny([one]), base, 'target_modules'));
  }
  return { lora, saved, tied, warnings };
}
