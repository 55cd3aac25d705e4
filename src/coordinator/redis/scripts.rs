//! The Lua scripts: each is one atomic transition of one shard or of the registry.

/// A script.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) code: &'static str,
    /// Has the hash by which the server identifies the script.
    pub(super) script: redis::Script,
    /// True if the caller waits until replicas of Redis have the change, in case
    /// `coordinator.replicas` is set.
    pub(super) awaits_replicas: bool,
}

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, script: redis::Script::new(code), awaits_replicas: true }
    }

    fn without_wait(self) -> Self {
        Self { awaits_replicas: false, ..self }
    }
}

/// All scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) attach: Script,
    pub(super) mark_shard: Script,
    pub(super) verify: Script,
    pub(super) set_ready: Script,
    pub(super) check: Script,
    pub(super) register: Script,
    pub(super) topics: Script,
    pub(super) delete_topic: Script,
    pub(super) delete_partitions: Script,
    pub(super) commit: Script,
    pub(super) find: Script,
    pub(super) trim: Script,
    pub(super) producers: Script,
    pub(super) renew: Script,
}

/// A script behind the checks of metadata id, replication id and sequence.
macro_rules! checked {
    ($($file:literal),+) => {
        Script::new(concat!(
            include_str!("loss_detection/replication_id.lua"),
            include_str!("scripts/prelude.lua"),
            $(include_str!($file)),+
        ))
    };
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            // These three run before there is a metadata id or a verified replication id.
            attach: Script::new(concat!(
                include_str!("loss_detection/replication_id.lua"),
                include_str!("scripts/attach.lua")
            )),
            mark_shard: Script::new(include_str!("scripts/mark_shard.lua")),
            verify: Script::new(concat!(
                include_str!("loss_detection/replication_id.lua"),
                include_str!("loss_detection/verify.lua")
            )),
            set_ready: checked!("scripts/set_ready.lua"),
            check: checked!("scripts/check.lua"),
            register: checked!("scripts/register.lua"),
            topics: checked!("scripts/topics.lua"),
            delete_topic: checked!("scripts/delete_topic.lua"),
            delete_partitions: checked!("scripts/delete_partitions.lua"),
            commit: checked!("scripts/partition.lua", "scripts/commit.lua"),
            find: checked!("scripts/partition.lua", "scripts/find.lua"),
            trim: checked!("scripts/partition.lua", "scripts/trim.lua"),
            producers: checked!("scripts/partition.lua", "scripts/producers.lua"),
            // A lost lease is taken again within seconds.
            renew: checked!("scripts/renew.lua").without_wait(),
        }
    }
}
