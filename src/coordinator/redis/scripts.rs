//! The Lua scripts: each one atomic transition of one shard or of the registry.

/// A script and the hash by which the server knows it once it ran.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) code: &'static str,
    pub(super) script: redis::Script,
    /// Whether its caller waits until replicas of Redis have what it wrote, if it is to.
    pub(super) is_proven: bool,
}

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, script: redis::Script::new(code), is_proven: true }
    }

    fn unproven(self) -> Self {
        Self { is_proven: false, ..self }
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) attach: Script,
    pub(super) adopt: Script,
    pub(super) settle: Script,
    pub(super) ready: Script,
    pub(super) touch: Script,
    pub(super) register: Script,
    pub(super) topics: Script,
    pub(super) unregister: Script,
    pub(super) delete_topic: Script,
    pub(super) commit: Script,
    pub(super) find: Script,
    pub(super) trim: Script,
    pub(super) producers: Script,
    pub(super) renew: Script,
}

macro_rules! checked {
    ($($file:literal),+) => {
        Script::new(concat!(
            include_str!("scripts/life.lua"),
            include_str!("scripts/prelude.lua"),
            $(include_str!($file)),+
        ))
    };
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            // These run before there is a generation to check, or a life that is settled.
            attach: Script::new(concat!(
                include_str!("scripts/life.lua"),
                include_str!("scripts/attach.lua")
            )),
            adopt: Script::new(include_str!("scripts/adopt.lua")),
            settle: Script::new(concat!(
                include_str!("scripts/life.lua"),
                include_str!("scripts/settle.lua")
            )),
            ready: checked!("scripts/ready.lua"),
            touch: checked!("scripts/touch.lua"),
            register: checked!("scripts/register.lua"),
            topics: checked!("scripts/topics.lua"),
            unregister: checked!("scripts/unregister.lua"),
            delete_topic: checked!("scripts/forget.lua"),
            commit: checked!("scripts/partition.lua", "scripts/commit.lua"),
            find: checked!("scripts/partition.lua", "scripts/find.lua"),
            trim: checked!("scripts/partition.lua", "scripts/trim.lua"),
            producers: checked!("scripts/partition.lua", "scripts/producers.lua"),
            // A lease that is lost is taken again within seconds.
            renew: checked!("scripts/renew.lua").unproven(),
        }
    }
}
