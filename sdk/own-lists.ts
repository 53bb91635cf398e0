/** Lists of parameters that an input has empty, where the request's are not: messages cannot tell empty from absent. */
import { create } from '@bufbuild/protobuf';
import {
  GenerationParametersSchema,
  type PredictInput as InputMessage,
  type GenerationParameters as ParametersMessage,
} from '../gen/loramux/v1/inference_pb.js';
import type { GenerationParameters } from './types.js';

const LISTS = ['stop', 'stopTokenIds', 'logitBias'] as const;

const sizeOf = (list: object): number => Object.keys(list).length;

/**
 * An input's list takes the place of the request's, an empty one too. Where an input has an empty one, the request's
 * list goes to the inputs that have none.
 * @param common the request's parameters
 * @param inputs its inputs as messages, changed in place as `common` is
 * @param own the parameters of each, as the caller wrote them
 */
export function giveOwnLists(
  common: ParametersMessage,
  inputs: readonly InputMessage[],
  own: readonly (GenerationParameters | undefined)[],
): void {
  for (const name of LISTS) {
    const given = own.map((one) => one?.[name] !== undefined);
    const emptied = inputs.some(({ parameters }, at) => given[at] && sizeOf(parameters?.[name] ?? []) === 0);
    if (!emptied || sizeOf(common[name]) === 0) continue;
    for (const [at, input] of inputs.entries()) {
      if (given[at]) continue;
      input.parameters ??= create(GenerationParametersSchema);
      Object.assign(input.parameters, { [name]: common[name] });
    }
    Object.assign(common, { [name]: create(GenerationParametersSchema)[name] });
  }
}
