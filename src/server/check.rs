//! `leveret check`: verifies a data folder.

use super::command::CheckArgs;
use super::layer::Layer;
use super::{Environment, Error, print_line, settings};
use crate::journal;

pub fn run(arguments: CheckArgs, environment: Environment<'_>) -> Result<(), Error> {
    let flags = Layer { data_dir: arguments.data_dir, ..Layer::default() };
    let layer = Layer::gather(flags, arguments.config.as_ref(), environment)?;
    let folder = settings::data_dir(&layer)?;
    if !folder.is_dir() {
        return Err(Error::Refused(format!("there is no data folder {}", folder.display())));
    }
    let report = journal::check(&folder)?;
    print_line(&format!("data      {}", folder.display()))?;
    print_line(&format!("segments  {}", report.segments))?;
    print_line(&format!("rows      {} ({} bytes)", report.rows, report.bytes))?;
    print_line(&format!("records   {}", report.records))?;
    print_line(&format!("live      {} facts", report.live_facts))?;
    print_line("ok")
}
