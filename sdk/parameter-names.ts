/** Names of generation parameters that do not exist, told with the name that would be right. */
import { GenerationParametersSchema } from '../gen/loramux/v1/inference_pb.js';
import { refuseAdapters } from './misplaced.js';

/** Parameters by their names without case and `_`, in which other APIs differ. */
const PARAMETERS = new Map(GenerationParametersSchema.fields.map(({ localName }) => [plain(localName), localName]));

function plain(name: string): string {
  return name.toLowerCase().replaceAll('_', '');
}

/** @throws TypeError for a parameter that does not exist: passed over, it would be missed in silence */
export function refuseUnknownParameters(value: object): void {
  if (typeof value !== 'object' || value === null)
    throw new TypeError('parameters must be an object, such as { maxNewTokens: 20 }');
  refuseAdapters(value, 'parameters');
  for (const [name, one] of Object.entries(value)) {
    const right = PARAMETERS.get(plain(name)) ?? (plain(name) === 'maxtokens' ? 'maxNewTokens' : undefined);
    if (one === undefined || right === name) continue;
    throw new TypeError(`parameters have no field ${name}${right === undefined ? '' : `; ${right} would be right`}`);
  }
}
