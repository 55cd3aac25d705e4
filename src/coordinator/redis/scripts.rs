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
    /// The greatest weight of the parts or partitions of one call, so that it takes the server less
    /// than 10 ms.
    pub(super) weight_max: usize,
    /// True if its changes are in Redis only, and in no object.
    pub(super) is_only_in_redis: bool,
}

impl LuaScript {
    fn new(code: &'static str) -> Self {
        let (script, lane) = (redis::Script::new(code), LaneKind::Changes);
        Self { code, script, lane, weight_max: usize::MAX, is_only_in_redis: false }
    }

    fn in_lane(self, lane: LaneKind) -> Self {
        Self { lane, ..self }
    }

    fn only_in_redis(self) -> Self {
        Self { is_only_in_redis: true, ..self }
    }

    fn with_weight_max(self, weight_max: usize) -> Self {
        Self { weight_max, ..self }
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
    pub(super) sweep: LuaScript,
    pub(super) raise_fence: LuaScript,
    pub(super) renew: LuaScript,
}

/// A script behind the checks of metadata id, replication id, sequence and numbers of elements.
/// The first argument is what it does to a Redis at its memory limit (`scripts/prelude.lua`).
macro_rules! checked {
    ($writes:literal, $($file:literal),+) => {
        LuaScript::new(concat!(
            "local WRITES = '", $writes, "'\n",
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
            set_ready: checked!("frees", "scripts/set_ready.lua"),
            check: checked!("nothing", "scripts/check.lua").in_lane(LaneKind::Queries),
            register: checked!("grows", "scripts/register.lua").with_weight_max(500),
            topics: checked!("nothing", "scripts/topics.lua").in_lane(LaneKind::Queries),
            delete_topic: checked!("frees", "scripts/delete_topic.lua"),
            delete_partitions: checked!("frees", "scripts/delete_partitions.lua").only_in_redis(),
            commit: checked!(
                "grows",
                "scripts/partition.lua",
                "scripts/fence.lua",
                "scripts/commit.lua"
            )
            // 200 parts of one batch, or 150 if it is of an idempotent producer.
            .with_weight_max(600),
            find: checked!("nothing", "scripts/partition.lua", "scripts/find.lua")
                .in_lane(LaneKind::Queries)
                .with_weight_max(128),
            trim: checked!("frees", "scripts/partition.lua", "scripts/trim.lua")
                .with_weight_max(500)
                .only_in_redis(),
            producers: checked!("nothing", "scripts/partition.lua", "scripts/producers.lua")
                .in_lane(LaneKind::Queries),
            sweep: checked!("frees", "scripts/partition.lua", "scripts/sweep.lua")
                .in_lane(LaneKind::Unreplicated),
            raise_fence: checked!(
                "frees",
                "scripts/partition.lua",
                "scripts/fence.lua",
                "scripts/raise_fence.lua"
            ),
            // A lost lease is taken again within seconds.
            renew: checked!("frees", "scripts/renew.lua").in_lane(LaneKind::Unreplicated),
        }
    }
}
