//! Every method of the port in one table: what it is called, who may call it, and whether it takes message after message.

use crate::security::Scope;

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody.
    Open,
    /// Whoever has a key.
    Key,
    /// Whoever has a key with this scope.
    Scope(Scope),
}

/// One method.
#[derive(Debug)]
pub(crate) struct Method {
    /// `package.Service/Method`, as gRPC's paths and traces have it.
    pub(crate) full_name: &'static str,
    pub(crate) access: Access,
    /// Whether a call sends message after message, each read before the next one is asked for.
    pub(crate) takes_stream: bool,
}

/// What a method of nobody's is called in counts and traces: a path may be anything.
pub(crate) const OTHER: &str = "_OTHER";
/// Paths under which what nobody knows is the administrator's. Others (health, reflection, the dashboard) are open.
const GUARDED: [&str; 2] = ["/raygen.", "/inference."];

const GENERATE: Access = Access::Scope(Scope::Generate);
const SCORE: Access = Access::Scope(Scope::Score);
const ADMIN: Access = Access::Scope(Scope::Admin);

const METHODS: [Method; 18] = [
    one("raygen.v1.RayGenService/Generate", GENERATE),
    one("raygen.v1.RayGenService/Encode", GENERATE),
    one("raygen.v1.RayGenService/Decode", GENERATE),
    many("raygen.v1.RayGenService/Score", SCORE),
    one("raygen.v1.ModelService/ListModels", Access::Key),
    one("raygen.v1.ModelService/GetModel", Access::Key),
    one("raygen.v1.ModelService/LoadModel", ADMIN),
    one("raygen.v1.ModelService/UnloadModel", ADMIN),
    one("inference.GRPCInferenceService/ModelInfer", GENERATE),
    many("inference.GRPCInferenceService/ModelStreamInfer", GENERATE),
    // As open as gRPC's own health.
    one("inference.GRPCInferenceService/ServerLive", Access::Open),
    one("inference.GRPCInferenceService/ServerReady", Access::Open),
    one("inference.GRPCInferenceService/ModelReady", Access::Open),
    one("inference.GRPCInferenceService/ServerMetadata", Access::Key),
    one("inference.GRPCInferenceService/ModelMetadata", Access::Key),
    one("inference.GRPCInferenceService/ModelConfig", Access::Key),
    one("inference.GRPCInferenceService/ModelStatistics", Access::Key),
    one("inference.GRPCInferenceService/RepositoryIndex", Access::Key),
];

const fn one(full_name: &'static str, access: Access) -> Method {
    Method { full_name, access, takes_stream: false }
}

const fn many(full_name: &'static str, access: Access) -> Method {
    Method { full_name, access, takes_stream: true }
}

/// The method at a path, if it is one of ours.
pub(crate) fn find(path: &str) -> Option<&'static Method> {
    static TABLE: [Method; METHODS.len()] = METHODS;
    let name = path.strip_prefix('/')?;
    TABLE.iter().find(|method| method.full_name == name)
}

/// Who may call what is at a path.
pub(crate) fn access(path: &str) -> Access {
    match find(path) {
        Some(method) => method.access,
        None if GUARDED.iter().any(|prefix| path.starts_with(prefix)) => ADMIN,
        None => Access::Open,
    }
}

/// Whether a path is one that needs no key and says little: health, reflection, pages.
pub(crate) fn is_work(path: &str) -> bool {
    access(path) != Access::Open
}

/// The last part of a method's name, as counts have it.
pub(crate) fn short_name(path: &str) -> &'static str {
    find(path).and_then(|method| method.full_name.rsplit('/').next()).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_protocols_ask_for_the_same_scope_and_only_health_asks_for_nothing() {
        for path in ["/inference.GRPCInferenceService/ModelInfer", "/raygen.v1.RayGenService/Generate"] {
            assert_eq!(access(path), GENERATE, "{path}");
        }
        for path in
            ["/inference.GRPCInferenceService/RepositoryModelLoad", "/inference.Else/ServerLive", "/raygen.v2.X/Y"]
        {
            assert_eq!((access(path), short_name(path)), (ADMIN, OTHER), "{path}");
        }
        for path in ["/inference.GRPCInferenceService/ServerLive", "/grpc.health.v1.Health/Check", "/"] {
            assert_eq!(access(path), Access::Open, "{path}");
        }
    }

    /// What the protos say: a method that is added there and forgotten here is the administrator's alone, and unbounded if it streams.
    #[test]
    fn the_table_holds_every_method_of_the_protos_and_which_of_them_take_streams() {
        use prost::Message;
        let files = prost_types::FileDescriptorSet::decode(raygen_proto::FILE_DESCRIPTOR_SET).expect("descriptors");
        let mut methods = 0;
        for file in files.file.iter() {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    let known = find(&path).unwrap_or_else(|| panic!("{path} is not in the table"));
                    assert_eq!(known.takes_stream, method.client_streaming(), "{path}");
                    methods += 1;
                }
            }
        }
        assert_eq!(methods, METHODS.len());
    }
}
