// The server that sent this page, by gRPC-web.
import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { ModelService } from "../gen/raygen/v1/model_service_pb";
import { RayGenService } from "../gen/raygen/v1/raygen_service_pb";
import { authorization } from "./key";

const withKey: Interceptor = (next) => (request) => {
  const value = authorization();
  if (value !== undefined) request.header.set("authorization", value);
  return next(request);
};

const transport = createGrpcWebTransport({ baseUrl: window.location.origin, interceptors: [withKey] });

export const models = createClient(ModelService, transport);
export const raygen = createClient(RayGenService, transport);
