//! Writes the fault matrix, as a table and as a picture: `matrix TABLE.md PICTURE.svg`.

use std::error::Error;
use std::fs;

use virgld_testkit::matrix;

fn main() -> Result<(), Box<dyn Error>> {
    let mut files = std::env::args().skip(1);
    let (actors, device) = (matrix::of_actors(), matrix::of_device());
    let table = matrix::markdown(&[actors.clone(), device.clone()].concat());
    print!("{table}");
    if let Some(file) = files.next() {
        fs::write(file, table)?;
    }
    if let Some(file) = files.next() {
        fs::write(file, matrix::svg(&actors, &device))?;
    }
    Ok(())
}
