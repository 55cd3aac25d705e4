//! The Lua scripts: each is one atomic transition of one shard or of the registry.

use super::lanes::LaneKind;

/// A script.
#[derive(Debug)]
pub(super) struct LuaScript {
    pub(super) code: &'static str,
    /// Has the hash by which the server identifies the script.
    pub(super) script: redis::Script,
    /// The lane of its calls.
    pub(super) lane: LaneKind,
}

impl LuaScript {
    fn new(code: &'static str) -> Self {
        Self { code, script: redis::Script::new(code), lane: LaneKind::Changes }
    }

    fn in_lane(self, lane: LaneKind) -> Self {
        Self { lane, ..self }
    }
}

/// All scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) attach: LuaScript,
    pub(super) mark_shard: LuaScript,
    pub(super) verify: LuaScript,
    pub(super) set_ready: LuaScript,
    pub(super) check: LuaScript,
    pub(super) register: LuaScript,
    pub(super) topics: LuaScript,
    pub(super) delete_topic: LuaScript,
    pub(super) delete_partitions: LuaScript,
    pub(super) commit: LuaScript,
    pub(super) find: LuaScript,
    pub(super) trim: LuaScript,
    pub(super) producers: LuaScript,
    pub(super) renew: LuaScript,
}

/// A script behind the checks of metadata id, replication id and sequence.
macro_rules! checked {
    ($($file:literal),+) => {
        LuaScript::new(concat!(
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
            attach: LuaScript::new(concat!(
                include_str!("loss_detection/replication_id.lua"),
                include_str!("scripts/attach.lua")
            )),
            mark_shard: LuaScript::new(include_str!("scripts/mark_shard.lua")),
            verify: LuaScript::new(concat!(
                include_str!("loss_detection/replication_id.lua"),
                include_str!("loss_detection/verify.lua")
            )),
            set_ready: checked!("scripts/set_ready.lua"),
            check: checked!("scripts/check.lua").in_lane(LaneKind::Queries),
            register: checked!("scripts/register.lua"),
            topics: checked!("scripts/topics.lua").in_lane(LaneKind::Queries),
            delete_topic: checked!("scripts/delete_topic.lua"),
            delete_partitions: checked!("scripts/delete_partitions.lua"),
            commit: checked!("scripts/partition.lua", "scripts/commit.lua"),
            find: checked!("scripts/partition.lua", "scripts/find.lua").in_lane(LaneKind::Queries),
            trim: checked!("scripts/partition.lua", "scripts/trim.lua"),
            producers: checked!("scripts/partition.lua", "scripts/producers.lua")
                .in_lane(LaneKind::Queries),
            // A lost lease is taken again within seconds.
            renew: checked!("scripts/renew.lua").in_lane(LaneKind::Unreplicated),
        }
    }
}
