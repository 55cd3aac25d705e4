//! The engine through its public face, over stores and coordinators that misbehave, in virtual
//! time.

mod batches;
mod doubt;
mod failure_modes;
mod fetch;
mod history;
mod kill;
mod lookup;
mod order;
mod produce;
mod rig;
mod uploads;
mod zone;
mod zone_rig;
