//! A stack for one measurement, and the books of what was sent to it.

use std::{collections::BTreeMap, time::Duration};

use local_stack::{
    aws::Table,
    lambda::{Function, FunctionOptions, Invocation},
    stack::{FUNCTION_TIMEOUT, Ports, Stack},
};

use crate::{
    audit::audit,
    batch::{Batch, Payment},
    stop::Stop,
    workplace::Workplace,
};

/// The size of the functions, as the template sets it.
pub(crate) const MEMORY_MB: u32 = 256;

/// How long each service takes to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Latencies {
    pub(crate) dynamodb_ms: u32,
    pub(crate) rest_ms: u32,
    pub(crate) grpc_ms: u32,
}

impl Latencies {
    /// The services answer at once, so that only our own work shows.
    pub(crate) const NONE: Self = Self { dynamodb_ms: 0, rest_ms: 0, grpc_ms: 0 };
    /// Those of services nearby.
    pub(crate) const NEARBY: Self = Self { dynamodb_ms: 4, rest_ms: 8, grpc_ms: 3 };

    /// What no worker can do without: its claim, the guard, the inventory and the completion come one after the other.
    pub(crate) fn limit_ms(self) -> u32 {
        self.dynamodb_ms + self.rest_ms + self.grpc_ms + self.dynamodb_ms
    }
}

/// A stack whose database costs next to nothing, and every payment that its functions have to settle.
pub(crate) struct Stage {
    pub(crate) stack: Stack,
    payments: Vec<Payment>,
}

impl Stage {
    pub(crate) async fn set() -> Result<Self, Stop> {
        let stack = Stack::start_with(Table::InMemory, Ports::default()).await?;
        Ok(Self { stack, payments: Vec::new() })
    }

    /// Delays every answer from now on.
    pub(crate) fn delay(&self, by: Latencies) {
        let of = |milliseconds: u32| Duration::from_millis(milliseconds.into());
        self.stack.aws.set_latency(of(by.dynamodb_ms));
        self.stack.reservations.set_latency(of(by.rest_ms));
        self.stack.inventory.set_latency(of(by.grpc_ms));
    }

    /// Deploys a function with one environment, on its own core if there is one.
    pub(crate) fn deploy(&self, workplace: &Workplace, name: &str) -> Result<Function, Stop> {
        let core = workplace.own_cores().map(|(_, function)| function);
        self.deploy_with(workplace, name, 1, core, BTreeMap::new())
    }

    /// As [`Self::deploy`], with environments, a core, and changed variables of the caller's choice.
    pub(crate) fn deploy_with(
        &self,
        workplace: &Workplace,
        name: &str,
        environments: usize,
        core: Option<usize>,
        changes: BTreeMap<String, String>,
    ) -> Result<Function, Stop> {
        let binary = workplace.binaries.get(name).cloned().ok_or(Stop::unable("a function was not built"))?;
        let mut environment = self.stack.environment(name);
        environment.extend(changes);
        let (name, timeout, memory_mb) = (name.to_owned(), FUNCTION_TIMEOUT, MEMORY_MB);
        let options = FunctionOptions { name, binary, environment, timeout, environments, memory_mb, core };
        Ok(Function::start(options)?)
    }

    /// A batch of so many new payments, whose reservations are in place when it comes back.
    pub(crate) fn batch(&mut self, records: usize) -> Result<Batch, Stop> {
        let next = self.payments.len();
        let new: Vec<Payment> = (next..next + records).map(Payment::nth).collect();
        let given: Vec<_> = new.iter().map(Payment::given).collect();
        self.stack.seed(&given);
        let batch = Batch::of(&new)?;
        self.payments.extend(new);
        Ok(batch)
    }

    /// Every payment so far in batches of this size, as new messages.
    pub(crate) fn duplicates(&self, records: usize) -> Result<Vec<Batch>, Stop> {
        Ok(self.payments.chunks(records).map(Batch::of).collect::<Result<_, _>>()?)
    }

    /// Ends the measurement: every payment so far must have been settled exactly once.
    pub(crate) async fn close(self) -> Result<(), Stop> {
        let faults = audit(&self.stack, &self.payments).await?;
        if faults.is_empty() { Ok(()) } else { Err(Stop::Invalid(faults)) }
    }
}

/// Has a batch worked, and makes sure that the answer keeps none of its records.
pub(crate) async fn settle(function: &Function, batch: &Batch) -> Result<Invocation, Stop> {
    let invocation = function.invoke(batch.event.clone()).await;
    batch.check(&invocation)?;
    Ok(invocation)
}

/// As [`settle`], by a process that has worked before: one that was started anew would spoil the figure.
pub(crate) async fn settle_warm(function: &Function, batch: &Batch) -> Result<Invocation, Stop> {
    let invocation = settle(function, batch).await?;
    match invocation.cold {
        false => Ok(invocation),
        true => Err(Stop::invalid("a process ended between two batches, and another took its place".to_owned())),
    }
}
