/**
 * `serving.properties` of DJL Serving, as far as it is served: the keys that mean something here, and one remark for
 * each of the others, so that nothing is dropped in silence.
 */
import { getProperties } from 'properties-file';

/** What a properties file asks for. */
export interface ServingProperties {
  /** `option.model_id` as written: a folder, absolute or relative to the file. */
  readonly modelId?: string | undefined;
  /** `option.enable_lora`; absent = on. */
  readonly enableLora?: boolean | undefined;
  /** `option.dtype`, where it is one that is served. */
  readonly dtype?: 'auto' | 'fp32' | 'int8' | undefined;
  /** `option.merge` as written: NAME[:WEIGHT],... */
  readonly merge?: string | undefined;
  /** `option.adapters` as written: a folder, absolute or relative to the file. */
  readonly adapters?: string | undefined;
  /** `option.entryPoint` as written: a module inside the folder that answers for the model. */
  readonly entryPoint?: string | undefined;
  /** `option.predict_timeout`, in seconds: time for a call of the handler. */
  readonly predictTimeoutS?: number | undefined;
  /** Every key with its value, for the handler. */
  readonly all: Readonly<Record<string, string>>;
  /** One line for each key that is not honoured. */
  readonly warnings: readonly string[];
}

const HALF_TYPES = ['fp16', 'bf16', 'float16', 'bfloat16', 'half'];

/** Reads the text of a `serving.properties`; throws `Error` with the key where a value makes no sense. */
export function readServingProperties(source: string): ServingProperties {
  const warnings: string[] = [];
  let modelId: string | undefined;
  let enableLora: boolean | undefined;
  let dtype: ServingProperties['dtype'];
  let adapters: string | undefined;
  let merge: string | undefined;
  let entryPoint: string | undefined;
  let predictTimeoutS: number | undefined;
  const all: Record<string, string> = {};
  for (const [key, raw] of Object.entries(getProperties(source))) {
    const value = raw.trim();
    all[key] = value;
    switch (key) {
      case 'option.entryPoint':
        // The original's own handlers have names of Python modules; what they do is what the server does anyway.
        if (/^djl_python\.[\w.]+$/.test(value))
          warnings.push(`option.entryPoint=${value} is ignored; the server answers itself`);
        else if (/\.(ts|mts|js|mjs)$/.test(value)) entryPoint = value;
        else throw new Error(`option.entryPoint=${value}: must be a .ts, .js or .mjs file inside the folder`);
        break;
      case 'option.predict_timeout':
        predictTimeoutS = Number(value);
        if (!/^\d+$/.test(value) || predictTimeoutS < 1)
          throw new Error(`option.predict_timeout=${value}: must be a whole number of seconds above 0`);
        break;
      case 'option.model_id':
        if (/^[a-z][a-z0-9+.-]*:\/\//i.test(value))
          throw new Error(`option.model_id=${value}: only folders are served`);
        modelId = value;
        break;
      case 'option.merge':
        merge = value;
        break;
      case 'option.adapters':
        adapters = value;
        break;
      case 'option.enable_lora':
        if (!/^(true|false)$/i.test(value)) throw new Error(`option.enable_lora=${value}: must be true or false`);
        enableLora = value.toLowerCase() === 'true';
        break;
      case 'option.dtype':
        if (['fp32', 'float32', 'float'].includes(value)) dtype = 'fp32';
        else if (value === 'int8') dtype = 'int8';
        else if (value === 'auto') dtype = 'auto';
        else if (HALF_TYPES.includes(value)) {
          dtype = 'auto';
          warnings.push(`option.dtype=${value} is not served; auto is used`);
        } else throw new Error(`option.dtype=${value}: must be auto, fp32 or int8`);
        break;
      case 'engine':
        if (!/^(python|loramux)$/i.test(value)) warnings.push(`engine=${value} is ignored; loramux runs every model`);
        break;
      default:
        warnings.push(`${key} is ignored`);
    }
  }
  if (predictTimeoutS !== undefined && entryPoint === undefined) {
    warnings.push('option.predict_timeout is ignored: it is the time of a custom handler, and there is none');
  }
  return { modelId, enableLora, dtype, adapters, merge, entryPoint, predictTimeoutS, all, warnings };
}
