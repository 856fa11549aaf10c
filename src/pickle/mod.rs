//! The pickle machine: it decodes every opcode of protocols 0 to 5 with `CPython`'s semantics, **records** calls and
//! makes none.
//!
//! A pickle is a program for a stack machine. [`Vm`] runs that program over handles into an arena, the [`Graph`].
//! Opcodes that would call something in Python (`REDUCE`, `NEWOBJ`, `OBJ`, `INST`, `BUILD`) become [`Call`] nodes.
//! The machine knows no Python names; what a name means is decided elsewhere, over the finished graph.
//!
//! Source of the format: `Lib/pickletools.py` and `Modules/_pickle.c` of `CPython`.

mod decode;
mod error;
mod graph;
mod numbers;
mod opcode;
mod text;
mod vm;

pub use decode::{Arg, Op, decode};
pub use error::{Anomaly, AnomalyKind, Error, ErrorKind};
pub use graph::{Call, Global, GlobalId, Graph, How, MemoId, Node, NodeId, Payload};
pub use opcode::{ArgForm, OPCODES, Opcode, opcode};
pub use vm::{Event, Vm};
