/** What a reading thread knows of the adapters before: theirs is mostly the form of the next one, too. */
import type { AdapterTensor, BindingPlan } from './binding-plan.js';
import { isResized } from './own-vocabulary.js';
import type { PeftConfig } from './peft-config.js';
import { Recent } from './recent.js';
import type { SafetensorsHeader } from './safetensors-header.js';
import type { AdapterBase } from './types.js';

interface KnownPlan {
  readonly config: PeftConfig;
  readonly base: AdapterBase;
  readonly plan: BindingPlan;
}

/** Configs and headers by their bytes, and plans by those and the base. Nothing in it depends on the numbers of tensors. */
export class KnownForms {
  readonly configs = new Recent<PeftConfig>();
  readonly headers = new Recent<SafetensorsHeader>();
  private readonly plans = new WeakMap<ReadonlyMap<string, AdapterTensor>, KnownPlan>();

  /** The plan that was made, and found to be without fault, of these very objects. */
  plan(tensors: ReadonlyMap<string, AdapterTensor>, config: PeftConfig, base: AdapterBase): BindingPlan | undefined {
    const known = this.plans.get(tensors);
    return known?.config === config && known.base === base ? known.plan : undefined;
  }

  /** Keeps a plan without faults. One for a resized base is not kept: reading notes in it what is beyond the base. */
  keep(tensors: ReadonlyMap<string, AdapterTensor>, config: PeftConfig, base: AdapterBase, plan: BindingPlan): void {
    if (!isResized(plan.base)) this.plans.set(tensors, { config, base, plan });
  }
}
