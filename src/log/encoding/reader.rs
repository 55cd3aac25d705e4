//! Decodes numbers, texts and sections. Every count is checked against the remaining bytes before
//! memory is allocated for it.

use super::error::{FormatError, FormatField};

/// Reads fields from the front of a slice.
pub(in crate::log) struct BytesReader<'a> {
    rest: &'a [u8],
}

/// A numbered range of bytes. Bytes after the fields that a reader knows are ignored.
pub(in crate::log) struct Section<'a> {
    pub(in crate::log) number: u64,
    pub(in crate::log) body: BytesReader<'a>,
}

impl Section<'_> {
    /// Skips a section whose number is unknown.
    ///
    /// # Errors
    /// [`FormatError::UnknownSection`] when the number is odd: a reader must understand it.
    pub(in crate::log) fn skip(self) -> Result<(), FormatError> {
        if self.number % 2 == 1 { Err(FormatError::UnknownSection(self.number)) } else { Ok(()) }
    }
}

impl<'a> BytesReader<'a> {
    pub(in crate::log) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(in crate::log) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Decodes a section, whatever its number.
    pub(in crate::log) fn section(&mut self) -> Result<Section<'a>, FormatError> {
        let number = self.varint()?;
        let length = self.count(1)?;
        Ok(Section { number, body: BytesReader::new(self.take(length)?) })
    }

    /// Decodes all remaining sections, whose numbers ascend.
    pub(in crate::log) fn sections(&mut self) -> Result<Vec<Section<'a>>, FormatError> {
        let mut sections: Vec<Section<'a>> = Vec::new();
        while !self.is_empty() {
            let section = self.section()?;
            if sections.last().is_some_and(|last| last.number >= section.number) {
                return Err(FormatError::Invalid(FormatField::Section));
            }
            sections.push(section);
        }
        Ok(sections)
    }

    pub(in crate::log) fn take(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(FormatError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(in crate::log) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(FormatError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(in crate::log) fn text(&mut self) -> Result<String, FormatError> {
        let length = self.count(1)?;
        let text = std::str::from_utf8(self.take(length)?);
        text.map(str::to_owned).map_err(|_| FormatError::Invalid(FormatField::Text))
    }

    /// Decodes a count of items of at least `bytes_min` bytes each.
    pub(in crate::log) fn count(&mut self, bytes_min: usize) -> Result<usize, FormatError> {
        let count = self.varint()?;
        let most = (self.rest.len() / bytes_min) as u64;
        if count > most {
            return Err(FormatError::Invalid(FormatField::Count));
        }
        usize::try_from(count).map_err(|_| FormatError::Invalid(FormatField::Count))
    }

    /// Decodes a number from 0 to 2³¹−1.
    pub(in crate::log) fn positive_i32(&mut self, field: FormatField) -> Result<i32, FormatError> {
        i32::try_from(self.varint()?).map_err(|_| FormatError::Invalid(field))
    }

    /// Decodes a number from 0 to 2³²−1.
    pub(in crate::log) fn u32(&mut self, field: FormatField) -> Result<u32, FormatError> {
        u32::try_from(self.varint()?).map_err(|_| FormatError::Invalid(field))
    }

    /// Decodes a number from 0 to 2⁶³−1.
    pub(in crate::log) fn positive_i64(&mut self, field: FormatField) -> Result<i64, FormatError> {
        i64::try_from(self.varint()?).map_err(|_| FormatError::Invalid(field))
    }

    /// Decodes a signed number.
    pub(in crate::log) fn signed(&mut self) -> Result<i64, FormatError> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// Decodes an unsigned base-128 number, least significant group first, in its shortest form.
    pub(in crate::log) fn varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let group = u64::from(byte & 0x7f);
            if shift == 63 && group > 1 || (byte == 0 && shift > 0) {
                return Err(FormatError::Invalid(FormatField::Varint));
            }
            value |= group << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(FormatError::Invalid(FormatField::Varint))
    }
}
