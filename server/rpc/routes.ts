import type { ConnectRouter } from '@connectrpc/connect';
import { file_google_rpc_error_details } from '../../gen/google/rpc/error_details_pb.js';
import { Health } from '../../gen/grpc/health/v1/health_pb.js';
import { ServerReflection as ReflectionV1 } from '../../gen/grpc/reflection/v1/reflection_pb.js';
import { ServerReflection as ReflectionV1Alpha } from '../../gen/grpc/reflection/v1alpha/reflection_pb.js';
import { AdapterService } from '../../gen/loramux/v1/adapters_pb.js';
import { InferenceService } from '../../gen/loramux/v1/inference_pb.js';
import { ModelService } from '../../gen/loramux/v1/models_pb.js';
import { WorkflowService } from '../../gen/loramux/v1/workflows_pb.js';
import type { Services } from '../service/types.js';
import { adapterRpc } from './adapters.js';
import { callInterceptor, type RpcLog } from './call.js';
import { HealthState, healthRpc } from './health.js';
import { inferenceRpc } from './inference.js';
import { modelRpc } from './models.js';
import { reflectionRpc } from './reflection.js';
import { workflowRpc } from './workflows.js';

const OURS = [InferenceService, AdapterService, ModelService, WorkflowService];

/** Names of the services that have a health status of their own. */
export const HEALTH_SERVICES: readonly string[] = OURS.map(({ typeName }) => typeName);

/** Settings of the RPC surface. */
export interface RpcOptions {
  /** What health checks see. Default: a state that serves from the start. */
  readonly health?: HealthState | undefined;
  /** Called at the end of every call. */
  readonly log?: RpcLog | undefined;
}

/** Registers every service, for any protocol and transport of Connect. */
export function createRpcRoutes(services: Services, options: RpcOptions = {}): (router: ConnectRouter) => void {
  const health = options.health ?? servingState();
  const interceptors = [callInterceptor(options.log)];
  return (router) => {
    const described = [...OURS, Health, ReflectionV1, ReflectionV1Alpha];
    const reflection = reflectionRpc(described, [file_google_rpc_error_details], health.draining);
    router
      .service(InferenceService, inferenceRpc(services.inference), { interceptors })
      .service(AdapterService, adapterRpc(services.adapters), { interceptors })
      .service(ModelService, modelRpc(services.management), { interceptors })
      .service(WorkflowService, workflowRpc(services.workflows), { interceptors })
      .service(Health, healthRpc(health))
      .service(ReflectionV1, reflection)
      .service(ReflectionV1Alpha, reflection);
  };
}

function servingState(): HealthState {
  const state = new HealthState(HEALTH_SERVICES);
  state.ready();
  return state;
}
