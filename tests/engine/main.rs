//! The engine through its public face, over stores and coordinators that misbehave, in virtual
//! time.

mod batches;
mod kill;
mod order;
mod rig;
