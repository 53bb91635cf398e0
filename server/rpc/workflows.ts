import type { ServiceImpl } from '@connectrpc/connect';
import type {
  CreateWorkflowRequest,
  WorkflowService as WorkflowServiceDesc,
} from '../../gen/loramux/v1/workflows_pb.js';
import { AppError } from '../errors.js';
import { pageOf } from '../service/name-page.js';
import type { WorkflowService, WorkflowSource } from '../service/workflows/types.js';
import { callContext } from './call.js';
import { toWorkflow } from './model-message.js';
import { assertValid } from './validation.js';

function sourceOf({ source }: CreateWorkflowRequest): WorkflowSource {
  switch (source.case) {
    case 'url':
      return { kind: 'url', url: source.value };
    case 'definition':
      return { kind: 'text', text: source.value };
    case 'template':
      return { kind: 'template', template: source.value.name, parameters: source.value.parameters };
    default:
      throw new AppError('INVALID_REQUEST', 'source: one of url, definition, template must be given');
  }
}

/** Serves `loramux.v1.WorkflowService`. */
export function workflowRpc(workflows: WorkflowService): ServiceImpl<typeof WorkflowServiceDesc> {
  return {
    async listWorkflows(request) {
      assertValid(request);
      const { items, nextPageToken } = pageOf(
        workflows.list(),
        ({ name, version }) => [name, version],
        request.pageSize,
        request.pageToken,
      );
      return { workflows: items.map(toWorkflow), nextPageToken };
    },

    async getWorkflow(request) {
      assertValid(request);
      return { workflow: toWorkflow(workflows.get(request.name, request.version)[0]!) };
    },

    async createWorkflow(request, context) {
      assertValid(request);
      const source = sourceOf(request);
      const call = callContext(context);
      if (request.synchronous ?? true) return { workflow: toWorkflow(await workflows.register(source, call)) };
      // It goes on when this call has been answered, so the end of the call must not end it.
      const { name, version } = await workflows.schedule(source, { ...call, signal: new AbortController().signal });
      return { workflow: { name, version } };
    },

    async deleteWorkflow(request, context) {
      assertValid(request);
      const removed = await workflows.unregister(request.name, request.version, callContext(context));
      return { workflows: removed.map(toWorkflow) };
    },
  };
}
